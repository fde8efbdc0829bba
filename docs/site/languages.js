// The language menu leads to a home page. Both sites have the same pages: lead to the one that is open instead.
const page = location.pathname.slice(new URL(".", __md_scope).pathname.length)
for (const link of document.querySelectorAll("a[hreflang]")) link.href = link.href.replace("index.html", page || "index.html")
