// The page is whole without this script: it sorts and filters the ledger, and enlarges the figures.
"use strict";

const table = document.querySelector("#ledger");
const body = table.tBodies[0];
const controls = document.querySelector(".controls");
const shown = document.querySelector(".shown");
const showAll = shown.querySelector("#show-all");
const inOrder = [...body.rows];
const rows = inOrder.filter((row) => row.dataset.family);
// The words of a row, without those in its plot.
const words = new Map(rows.map((row) => [row, wordsOf(row)]));

function wordsOf(row) {
  const parts = [...row.querySelectorAll(".id, .origin, .sentence, dd")];
  return parts.map((part) => part.textContent).join(" ").toLowerCase();
}

// Filters.

function matches(row) {
  const { family, origin, experiment, text } = controls.elements;
  return (
    (!family.value || row.dataset.family === family.value) &&
    (!origin.value || row.dataset.origin === origin.value) &&
    (!experiment.value || row.dataset.experiment.split(", ").includes(experiment.value)) &&
    text.value.toLowerCase().split(/\s+/).every((word) => words.get(row).includes(word))
  );
}

// The claims of the paper come first. What was added to them is folded until one asks for rows, but for
// rows that fail.
let folded = true;

function isSeen(row) {
  return !row.hidden && !row.classList.contains("folded");
}

function filter() {
  const asked = table.classList.contains("flat") || [...controls.elements].some((control) => control.value);
  for (const row of rows) {
    const first = row.dataset.origin === "paper" || row.dataset.verdict !== "0";
    row.hidden = !matches(row);
    row.classList.toggle("folded", folded && !asked && !first);
  }
  // A heading is shown with the first of its rows, that of a section also above folded rows.
  let section, group;
  for (const row of inOrder) {
    if (row.dataset.family) {
      if (!row.hidden) section.hidden = group.hidden = false;
      if (isSeen(row)) group.classList.remove("folded");
    } else {
      if (row.classList.contains("section")) [section, group] = [row, null];
      else group = row;
      row.hidden = true;
      group?.classList.add("folded");
    }
  }
  const count = rows.filter(isSeen).length;
  shown.querySelector("output").textContent = `${count} of ${rows.length} rows`;
  showAll.hidden = count === rows.length;
}

function clear() {
  folded = false;
  controls.reset();
  filter();
}

// Sorting: a number that there is none of comes last, and equal rows stay in the order of the claims.

function sort(header, descending) {
  const key = header.dataset.sort;
  for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
  header.setAttribute("aria-sort", descending ? "descending" : "ascending");
  const number = (row) => (row.dataset[key] === "" ? NaN : Number(row.dataset[key]));
  const byNumber = (a, b) =>
    isNaN(number(a)) - isNaN(number(b)) || (descending ? -1 : 1) * (number(a) - number(b)) || 0;
  const asClaimed = key === "order" && !descending;
  table.classList.toggle("flat", !asClaimed);
  body.append(...(asClaimed ? inOrder : [...rows].sort(byNumber)));
  filter();
}

function makeSortable(header) {
  const button = document.createElement("button");
  button.type = "button";
  button.textContent = header.textContent;
  header.replaceChildren(button);
  button.addEventListener("click", () => {
    const now = header.getAttribute("aria-sort");
    // Large numbers come first, but for the order of the claims.
    sort(header, now ? now === "ascending" : header.dataset.sort !== "order");
  });
}

// Unfolding.

const unfold = shown.querySelector("#unfold");
unfold.addEventListener("click", () => {
  const open = unfold.textContent === "Unfold all";
  for (const row of rows) row.querySelector("details").open = open;
  unfold.textContent = open ? "Fold all" : "Unfold all";
});

// A link to a row that is filtered out shows it again.
function reveal() {
  const row = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (row && !isSeen(row)) {
    clear();
    row.scrollIntoView();
  }
}

// Figures.

const dialog = document.querySelector("dialog");
const stage = dialog.querySelector(".stage");
const figures = [...document.querySelectorAll("figure")];
let current = 0;

function show(index) {
  current = (index + figures.length) % figures.length;
  const source = figures[current].querySelector("img");
  const image = dialog.querySelector("img");
  image.src = source.src;
  image.alt = source.alt;
  dialog.querySelector("b").textContent = `Figure ${current + 1} of ${figures.length}`;
  const caption = figures[current].querySelector(".caption").cloneNode(true);
  for (const link of caption.querySelectorAll("a")) link.replaceWith(...link.childNodes);
  dialog.querySelector("p").replaceChildren(caption);
  stage.classList.remove("whole");
  if (!dialog.open) dialog.showModal();
}

function makeLarge(figure, index) {
  const image = figure.querySelector("img");
  const button = document.createElement("button");
  button.type = "button";
  button.ariaLabel = `Enlarge figure ${index + 1}: ${image.alt}`;
  image.replaceWith(button);
  button.append(image);
  button.addEventListener("click", () => show(index));
}

dialog.addEventListener("keydown", (event) => {
  // In an enlarged picture the arrows move the picture.
  if (stage.classList.contains("whole")) return;
  if (event.key === "ArrowRight") show(current + 1);
  if (event.key === "ArrowLeft") show(current - 1);
});
stage.addEventListener("click", (event) => {
  if (event.target === stage) dialog.close();
  else stage.classList.toggle("whole");
});
dialog.querySelector(".previous").addEventListener("click", () => show(current - 1));
dialog.querySelector(".next").addEventListener("click", () => show(current + 1));
dialog.querySelector(".close").addEventListener("click", () => dialog.close());
dialog.addEventListener("close", () => figures[current].querySelector("button").focus());

for (const header of table.tHead.querySelectorAll("[data-sort]")) makeSortable(header);
table.tHead.querySelector("[data-sort=order]").setAttribute("aria-sort", "ascending");
figures.forEach(makeLarge);
controls.addEventListener("input", filter);
controls.addEventListener("submit", (event) => event.preventDefault());
showAll.addEventListener("click", clear);
body.querySelector(".unfold-rows")?.addEventListener("click", clear);
addEventListener("hashchange", reveal);
controls.hidden = shown.hidden = false;
filter();
reveal();
