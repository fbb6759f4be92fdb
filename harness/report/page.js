"use strict";
// Without this script the page is complete; with it the tables sort and filter, and the data can be saved.
for (const button of document.querySelectorAll("thead button")) {
  button.addEventListener("click", () => sort(button.closest("th")));
}

// Tables that are folded away tell more of one row: they are no rows of their own, and have other columns.
const rows = [...document.querySelectorAll("tbody tr")].filter((row) => !row.closest("details"));
const filter = document.getElementById("filter");
const choices = [...document.querySelectorAll("select[data-filter]")];
for (const control of [filter, ...choices]) control?.addEventListener("input", narrow);

function narrow() {
  const wanted = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
  const chosen = choices.filter((choice) => choice.value).map((choice) => [choice.dataset.filter, choice.value]);
  let shown = 0;
  for (const row of rows) {
    const { text } = row.dataset;
    row.hidden = !(
      wanted.every((word) => text.includes(word)) && chosen.every(([name, value]) => row.dataset[name] === value)
    );
    shown += row.hidden ? 0 : 1;
  }
  const said = wanted.length || chosen.length ? `${shown} of ${rows.length} rows` : "";
  document.getElementById("count").textContent = shown ? said : `${said}: nothing matches`;
  const by = [...wanted, ...chosen.map(([, value]) => value)].join(", ");
  document.getElementById("narrowed").textContent = said && `${said}: ${by}`;
}

// A hidden column is a rule of a style sheet: a thousand rows follow at once. Rows without figures have one wide cell,
// which is never hidden; the heads of groups shrink with their columns.
const switches = [...document.querySelectorAll("input[data-column]")];
const hidden = document.head.appendChild(document.createElement("style"));
for (const box of switches) {
  if (box.dataset.detail !== undefined) box.checked = false;
  box.addEventListener("change", showColumns);
}
showColumns();

// The menu lies over the page, within the window, and goes away as menus do.
const menu = document.querySelector(".columns-menu");
menu?.addEventListener("toggle", () => {
  const list = menu.querySelector(".menu");
  list.style.left = "0";
  const beyond = list.getBoundingClientRect().right - document.documentElement.clientWidth + 8;
  if (beyond > 0) list.style.left = `${-beyond}px`;
});
addEventListener("click", (event) => {
  if (menu && !menu.contains(event.target)) menu.open = false;
});
addEventListener("keydown", (event) => {
  if (event.key !== "Escape" || !menu?.open) return;
  menu.open = false;
  menu.querySelector("summary").focus();
});

function showColumns() {
  const off = switches.filter((box) => !box.checked).map((box) => Number(box.dataset.column));
  hidden.textContent = off
    .map((n) => `table:not(details table) tr:not(.groups) > :nth-child(${n + 1}):not([colspan]) { display: none; }`)
    .join("\n");
  for (const head of document.querySelectorAll("tr.groups th")) {
    head.dataset.first ??= [...head.parentElement.children]
      .slice(0, [...head.parentElement.children].indexOf(head))
      .reduce((sum, cell) => sum + cell.colSpan, 0);
    head.dataset.span ??= head.colSpan;
  }
  for (const head of document.querySelectorAll("tr.groups th")) {
    const first = Number(head.dataset.first);
    const columns = Array.from({ length: Number(head.dataset.span) }, (_, index) => first + index);
    const left = columns.filter((column) => !off.includes(column)).length;
    head.hidden = left === 0;
    head.colSpan = Math.max(left, 1);
  }
}

const text = document.getElementById("data").textContent;
document.getElementById("copy")?.addEventListener("click", async (event) => {
  const button = event.currentTarget;
  const label = button.textContent;
  try {
    await navigator.clipboard.writeText(text);
    button.textContent = "Copied";
  } catch {
    button.textContent = "The browser does not allow it: save instead";
  }
  setTimeout(() => (button.textContent = label), 2000);
});

document.getElementById("save").addEventListener("click", () => {
  const data = new Blob([text], { type: "application/json" });
  const link = document.createElement("a");
  link.href = URL.createObjectURL(data);
  link.download = `${document.documentElement.dataset.run}.json`;
  link.click();
  URL.revokeObjectURL(link.href);
});

const themes = ["system", "light", "dark"];
const themeButton = document.getElementById("theme");
themeButton.addEventListener("click", () => {
  const next = themes[(themes.indexOf(document.documentElement.dataset.theme ?? "system") + 1) % themes.length];
  if (next === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = next;
  themeButton.textContent = `Theme: ${next}`;
});

// The pictures are drawn after the page is there, one at a time, so that its table never waits for them.
const MANY_PICTURES = 60;
if (document.querySelectorAll("figure").length > MANY_PICTURES) document.documentElement.classList.add("many");
const LEGEND_WIDTH = 210;
const charts = document.getElementById("charts");
const specs = charts ? JSON.parse(charts.textContent) : [];
draw();

async function draw() {
  // Names of colours and not colours: a picture follows the theme, and on paper the paper, without being drawn again.
  const colour = (name) => `var(--${name})`;
  const kinds = ["kind0", "kind1", "kind2", "kind3", "kind4", "kind5", "kind6", "kind7"].map(colour);
  const axis = {
    labelColor: colour("ink"), titleColor: colour("quiet"), gridColor: colour("line"), domainColor: colour("quiet"),
    tickColor: colour("quiet"), labelFontSize: 12, titleFontSize: 12, titleFontWeight: "normal",
  };
  const config = {
    background: "transparent", font: getComputedStyle(document.body).fontFamily, range: { category: kinds }, axis,
    legend: {
      labelColor: colour("ink"), titleColor: colour("quiet"), orient: "bottom", labelFontSize: 12, columnPadding: 16,
      labelLimit: 320,
      symbolBaseFillColor: colour("ink"), symbolBaseStrokeColor: colour("ink"), layout: { bottom: { margin: 24 } },
    },
    // What has no colour of its own would be black, on a dark page as well.
    mark: { color: colour("kind0") }, rule: { color: colour("quiet") },
    view: { stroke: null },
  };
  for (const place of document.querySelectorAll("[data-chart]")) {
    await new Promise((done) => setTimeout(done));
    const spec = specs[Number(place.dataset.chart)];
    // A legend has as many columns as there is room for: what is beyond the edge nobody sees.
    const columns = Math.max(1, Math.floor(place.clientWidth / LEGEND_WIDTH));
    const fitted = { ...config, legend: { ...config.legend, columns, labelLimit: LEGEND_WIDTH - 40 } };
    // Expressions are interpreted: the page forbids code made from text.
    try {
      const { view } = await window.vegaEmbed(
        place, spec, { mode: "vega-lite", renderer: "svg", actions: false, ast: true, config: fitted },
      );
      for (const part of [spec, ...(spec.layer ?? [])]) {
        for (const param of (part.params ?? []).filter((each) => each.bind === "legend")) {
          place.prepend(chooser(view, param, spec.data.values));
        }
      }
    } catch (error) {
      place.textContent = `This picture could not be drawn: ${error.message}`;
    }
    const select = place.querySelector(".vega-bind select");
    if (select) {
      select.setAttribute("aria-label", "Row of the picture");
      select.addEventListener("change", printed(place, select));
    }
  }
  document.documentElement.dataset.drawn = "yes";
}

// A legend is chosen from by mouse; beside it stands a list that takes the keyboard and a screen reader, too.
function chooser(view, { name, select }, data) {
  const [field] = select.fields;
  const signal = `${name}_${field}_legend`;
  const list = document.createElement("select");
  list.setAttribute("aria-label", `Show one ${field} in the picture`);
  list.append(new Option(`every ${field}`, ""));
  for (const value of new Set(data.map((datum) => datum[field]))) list.append(new Option(value, value));
  list.addEventListener("change", () => view.signal(signal, list.value || null).runAsync());
  const place = document.createElement("div");
  place.append(list);
  const tell = printed(place, list);
  list.addEventListener("change", tell);
  view.addSignalListener(signal, (_, value) => {
    list.value = value ?? "";
    tell();
  });
  place.className = "vega-bindings";
  return place;
}

// A list is no use on paper; what was chosen from it is said there in words.
function printed(place, list) {
  const said = document.createElement("p");
  said.className = "printed";
  place.prepend(said);
  const tell = () => (said.textContent = list.value);
  tell();
  return tell;
}

let unfolded = [];
addEventListener("beforeprint", () => {
  unfolded = [...document.querySelectorAll("details:not([open]):not(.columns-menu)")];
  for (const details of unfolded) details.open = true;
});
addEventListener("afterprint", () => {
  for (const details of unfolded) details.open = false;
});

function sort(head) {
  const order = head.getAttribute("aria-sort") === "ascending" ? "descending" : "ascending";
  for (const other of head.parentElement.children) other.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", order);
  const column = head.cellIndex;
  const body = head.closest("table").tBodies[0];
  const rows = [...body.rows].map((row) => [row, key(row.cells[column])]);
  const sign = order === "ascending" ? 1 : -1;
  // Rows without a value stay at the end either way.
  rows.sort(([, a], [, b]) => (a === null || b === null ? (a === null) - (b === null) : sign * compare(a, b)));
  body.append(...rows.map(([row]) => row));
}

function key(cell) {
  if (!cell || cell.colSpan > 1) return null;
  if (cell.dataset.v === undefined) return cell.textContent || null;
  return cell.dataset.v === "" ? null : Number(cell.dataset.v);
}

function compare(a, b) {
  return typeof a === "number" ? a - b : a.localeCompare(b, "en", { numeric: true });
}
