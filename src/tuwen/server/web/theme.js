// The theme a person chose, before the first paint: nothing flashes. A plain script, so that it runs where it stands.
try {
  const chosen = localStorage.getItem("tuwen.theme");
  if (chosen) document.documentElement.dataset.theme = chosen;
} catch {
  // Storage is closed to this page: the system's theme it is.
}
