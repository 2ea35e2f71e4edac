"use strict";
const exact = (row, column) => {
  const cell = row.cells[column];
  return { number: parseFloat(cell.dataset.key), text: cell.textContent };
};
const sorted = (rows, column, down) => [...rows].sort((one, other) => {
  const [a, b] = [exact(one, column), exact(other, column)];
  const [known, too] = [!Number.isNaN(a.number), !Number.isNaN(b.number)];
  if (known !== too) return known ? -1 : 1;
  const order = known ? a.number - b.number : a.text.localeCompare(b.text, "en", { numeric: true });
  return down ? -order : order;
});
for (const table of document.querySelectorAll("table")) {
  const body = table.tBodies[0], first = [...body.rows];
  for (const button of table.querySelectorAll("button")) {
    button.addEventListener("click", () => {
      const head = button.closest("th"), next = { none: "descending", descending: "ascending", ascending: "none" };
      const way = next[head.getAttribute("aria-sort") ?? "none"];
      for (const other of table.querySelectorAll("th[aria-sort]")) other.removeAttribute("aria-sort");
      if (way !== "none") head.setAttribute("aria-sort", way);
      body.append(...(way === "none" ? first : sorted(first, Number(button.dataset.column), way === "descending")));
    });
  }
}
const filter = document.getElementById("filter");
if (filter) {
  filter.closest("p").hidden = false;
  filter.addEventListener("input", () => {
    const wanted = filter.value.toLowerCase(), rows = [...document.querySelectorAll("tbody tr")];
    for (const row of rows) row.hidden = !row.textContent.toLowerCase().includes(wanted);
    const left = rows.filter((row) => !row.hidden).length;
    document.getElementById("count").textContent = wanted ? `${left} of ${rows.length} rows` : "";
  });
}
