const filter = document.querySelector(".filter");
const input = filter.querySelector("input");
const output = filter.querySelector("output");
const parts = [...document.querySelectorAll(".part")].map((part) => ({
  part,
  rows: [...part.querySelectorAll("tbody tr, li, h3:last-child")].map((row) => {
    const shown = [...row.children].map((cell) => `${cell.textContent} ${cell.title}`);
    return { row, text: `${part.dataset.of} ${shown.join(" ")}`.toLowerCase() };
  }),
}));
const apply = () => {
  const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
  let shown = 0;
  for (const { part, rows } of parts) {
    let here = 0;
    for (const { row, text } of rows) {
      const fits = words.every((word) => text.includes(word));
      if (row.hidden === fits) row.hidden = !fits;
      here += fits;
    }
    part.hidden = here === 0 && words.length > 0;
    shown += here;
  }
  output.dataset.by = input.value.trim();
  output.textContent = words.length > 0 ? `${shown} shown` : "";
};
let waiting;
input.addEventListener("input", () => {
  clearTimeout(waiting);
  waiting = setTimeout(apply, 60);
});
filter.hidden = false;
if (input.value) apply();
