// Draws openapi.json for people: the routes, what they take and what they answer.

const about = document.querySelector("#about");
const routes = document.querySelector("#routes");

const element = (name, text = "", ...children) => {
  const made = document.createElement(name);
  made.textContent = text;
  made.append(...children);
  return made;
};

// A schema as an example of itself: names, and what kind of value stands below each.
const example = (schema, all, depth = 0) => {
  if (!schema || depth > 6) return "…";
  if (schema.$ref) return example(all[schema.$ref.split("/").pop()], all, depth + 1);
  const choices = schema.anyOf ?? schema.oneOf;
  if (choices) return example(choices[0], all, depth);
  if (schema.enum) return schema.enum.join(" | ");
  if (schema.const) return schema.const;
  if (schema.type === "array") return [example(schema.items, all, depth + 1)];
  if (schema.properties) {
    const pairs = Object.entries(schema.properties);
    return Object.fromEntries(pairs.map(([name, below]) => [name, below.default ?? example(below, all, depth + 1)]));
  }
  return schema.type ?? "any";
};

const fields = (rows) => {
  const table = element("table");
  for (const [name, where, what] of rows) {
    table.append(element("tr", "", element("th", name), element("td", where), element("td", what)));
  }
  return table;
};

const content = (title, media, all) =>
  Object.entries(media ?? {}).flatMap(([type, { schema }]) => [
    element("h3", `${title}: ${type}`),
    element("pre", JSON.stringify(example(schema, all), null, 2)),
  ]);

const drawn = (method, path, route, all) => {
  const made = element("details", "", element("summary", "", element("code", `${method.toUpperCase()} ${path}`)));
  made.append(element("p", route.description ?? route.summary ?? ""));
  const parameters = (route.parameters ?? []).map((it) => [it.name, it.in, it.description ?? it.schema?.type ?? ""]);
  if (parameters.length) made.append(fields(parameters));
  made.append(...content("Request", route.requestBody?.content, all));
  made.append(...content("Answer", route.responses?.["200"]?.content, all));
  return made;
};

const api = await (await fetch("openapi.json")).json();
const prefix = api.servers?.[0]?.url ?? "";
about.textContent = `${api.info.description} Version ${api.info.version}. `;
about.append(element("a", "openapi.json"));
about.lastChild.href = "openapi.json";
for (const [path, methods] of Object.entries(api.paths)) {
  for (const [method, route] of Object.entries(methods)) {
    routes.append(drawn(method, prefix + path, route, api.components?.schemas ?? {}));
  }
}
