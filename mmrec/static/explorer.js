
const all = [...document.querySelectorAll("article")], get = id => document.getElementById(id), pick = get("pick"), search = get("search")
const kind = () => document.querySelector("[name=kind]:checked").value
function fill() {
  const words = search.value.toLowerCase().split(/\s+/).filter(Boolean)
  const found = all.filter(a => a.id.startsWith(kind() + "=") && words.every(w => a.dataset.name.toLowerCase().includes(w)))
  pick.replaceChildren(...found.map(a => new Option(a.dataset.name, a.id)))
}
function show(id, keep) {
  for (const a of all) a.classList.toggle("on", a.id === id)
  pick.value = id ?? ""
  get("count").textContent = pick.length ? `${pick.selectedIndex + 1} of ${pick.length}` : "nothing found"
  get("back").disabled = pick.selectedIndex <= 0; get("next").disabled = pick.selectedIndex >= pick.length - 1
  if (id && !keep) history.replaceState(null, "", "#" + id)
}
function refill() { fill(); show(pick.options[0]?.value) }
function follow(focus) {
  const id = location.hash.slice(1), entry = all.find(a => a.id === id)
  if (!entry) return false
  document.querySelector(`[name=kind][value=${id.split("=")[0]}]`).checked = true
  if (![...pick.options].some(o => o.value === id)) { search.value = ""; fill() }
  show(id, true)
  if (focus) { const name = entry.querySelector(".name"); name.focus({preventScroll: true}); entry.scrollIntoView() }
  return true
}
function step(by) { const to = pick.options[pick.selectedIndex + by]; if (to) show(to.value) }
for (const field of document.querySelectorAll("[name=kind]")) field.onchange = refill
search.oninput = refill; pick.onchange = () => show(pick.value); get("back").onclick = () => step(-1); get("next").onclick = () => step(1)
document.querySelector("form").onsubmit = () => false
addEventListener("hashchange", () => follow(true)); fill(); follow(true) || show(pick.options[0]?.value, true)
