"use strict";
// Sorting, search, facets, comparison and copying: additions to pages that are complete without them.
// Everything is made of text and attributes, never of markup, so that no name can become an element.
(() => {
  const all = (selector, where = document) => [...where.querySelectorAll(selector)];
  const make = (tag, attributes = {}, ...children) => {
    const element = document.createElement(tag);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    element.append(...children);
    return element;
  };
  const words = (cell) => cell.textContent.replace(/\s+/g, " ").trim();
  const number = (cell) => {
    const found = words(cell).replace(/−/g, "-").match(/-?\d+(\.\d+)?/);
    return found ? Number(found[0]) : null;
  };
  const state = { q: "", sort: "", compare: [] };
  const FACETS = {
    paradigm: (row) => [row.dataset.paradigm],
    backbone: (row, body) => [body.dataset.backbone],
    "data set": (row, body) => JSON.parse(body.dataset.sets),
    threat: (row, body) => [body.dataset.threat],
    modality: (row, body) => [body.dataset.modality],
    year: (row) => [row.dataset.year],
    state: (row) => [row.dataset.state],
  };
  const MOST = 4; // methods side by side

  const boards = all("table.board");
  const lines = boards.flatMap((table) =>
    all("tbody", table).flatMap((body) => all("tr[data-k]", body).map((row) => ({ row, body, table }))));
  lines.forEach((line) => { line.id = `${line.body.id}/${line.row.dataset.k}`; line.said = words(line.row.cells[0]).toLowerCase(); });

  // Sorting, by the W3C pattern for sortable tables: a button in the header, aria-sort on it.
  function sortable(table) {
    all("thead th[data-sort]", table).forEach((head) => {
      const name = words(head);
      const button = make("button", { type: "button" }, name, make("span", { "aria-hidden": "true", class: "arrow" }));
      head.replaceChildren(button);
      button.addEventListener("click", () => {
        const now = head.getAttribute("aria-sort");
        const first = head.dataset.sort === "down" ? "descending" : "ascending";
        const other = first === "ascending" ? "descending" : "ascending";
        state.sort = now === null ? `${name}:${first}` : now === first ? `${name}:${other}` : "";
        apply();
      });
    });
  }

  function sort(table) {
    const [name, direction] = state.sort.split(":");
    const heads = all("thead th", table);
    heads.forEach((head) => head.removeAttribute("aria-sort"));
    const column = heads.findIndex((head) => words(head) === name);
    if (column >= 0) heads[column].setAttribute("aria-sort", direction);
    const text = column >= 0 && heads[column].dataset.sort === "text";
    const sign = direction === "descending" ? -1 : 1;
    all("tbody", table).forEach((body) => {
      const theirs = lines.filter((line) => line.body === body);
      const value = new Map(theirs.map((line) => {
        const cell = line.row.cells[column];
        return [line, column < 0 ? null : text ? words(cell).toLowerCase() : number(cell)];
      }));
      const ordered = column < 0 ? theirs : [...theirs].sort((a, b) => {
        const [x, y] = [value.get(a), value.get(b)];
        if (x === null || y === null) return (x === null) - (y === null); // what has no number stays last
        return sign * (text ? x.localeCompare(y) : x - y);
      });
      body.append(...ordered.map((line) => line.row));
    });
  }

  function filter() {
    const asked = state.q.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    lines.forEach(({ row, body, said }) => {
      const fits = asked.every((part) => said.includes(part)) &&
        Object.entries(FACETS).every(([name, of]) => !state[name] || of(row, body).includes(state[name]));
      row.hidden = !fits;
      shown += fits;
    });
    boards.forEach((table) => all("tbody", table).forEach((body) => {
      body.hidden = !all("tr[data-k]", body).some((row) => !row.hidden);
    }));
    const visible = new Set(lines.filter((line) => !line.row.hidden).map((line) => line.id));
    all("details.sets").forEach((box) => {
      const chosen = state["data set"];
      all("tbody tr", box).forEach((row) => { row.hidden = !visible.has(`${box.dataset.of}/${row.dataset.k}`); });
      const heads = all("thead th", box);
      const only = heads.findIndex((head) => head.dataset.set === chosen);
      box.hidden = !all("tbody tr", box).some((row) => !row.hidden);
      if (only >= 0) box.open = true;
      all("tr", box).forEach((row) => [...row.cells].forEach((cell, i) => { cell.hidden = only >= 0 && i > 0 && i !== only; }));
    });
    return shown;
  }

  // Two to four lines side by side: what the tables say, turned round.
  function compare() {
    const place = document.getElementById("compared");
    const chosen = state.compare.map((id) => lines.find((line) => line.id === id)).filter(Boolean);
    place.hidden = chosen.length < 2;
    const jump = document.getElementById("jump");
    jump.hidden = chosen.length < 2;
    jump.textContent = `${chosen.length} side by side ↑`;
    const head = make("tr", {}, make("th", { scope: "col" }, "Side by side"));
    chosen.forEach(({ row, body }) => head.append(make("th", { scope: "col" },
      make("a", { href: row.cells[0].querySelector("a").getAttribute("href") }, row.dataset.k), " ",
      make("span", { class: "sub" }, `${body.dataset.backbone}, ${body.dataset.threat}`))));
    const facts = new Map(); // term -> value of each chosen line
    const tell = (term, i, value) => { if (!facts.has(term)) facts.set(term, chosen.map(() => "–")); facts.get(term)[i] = value; };
    chosen.forEach(({ row, body, table }, i) => {
      all("thead th", table).slice(1).forEach((th, column) => tell(words(th), i, words(row.cells[column + 1])));
      all("details.sets").filter((box) => box.dataset.of === body.id).forEach((box) => {
        const own = all("tbody tr", box).find((one) => one.dataset.k === row.dataset.k);
        all("thead th", box).slice(1).forEach((th, column) => {
          const [worst, clean] = [...own.cells[column + 1].childNodes].map((node) => node.textContent.trim());
          tell(`${words(th)}: worst case (clean)`, i, clean ? `${worst} (${clean})` : worst);
        });
      });
    });
    const rows = [...facts].map(([term, values]) =>
      make("tr", {}, make("th", { scope: "row" }, term), ...values.map((value) => make("td", {}, value))));
    place.replaceChildren(make("div", { class: "scroll", role: "region", tabindex: "0", "aria-label": "Side by side" },
      make("table", { class: "side" }, make("caption", {}, "Lines of different headings are not comparable in rank."),
        make("thead", {}, head), make("tbody", {}, ...rows))));
    all("input.pick").forEach((box) => {
      box.checked = state.compare.includes(box.value);
      box.disabled = !box.checked && state.compare.length >= MOST;
    });
  }

  function remember() {
    const kept = new URLSearchParams();
    Object.entries(state).forEach(([key, value]) => {
      (Array.isArray(value) ? value : [value]).filter(Boolean).forEach((one) => kept.append(key, one));
    });
    const hash = kept.toString();
    all("#suites a").forEach((link) => { link.hash = hash; }); // another suite keeps search, sorting, facets and comparison
    if (hash || location.hash.includes("=")) history.replaceState(null, "", hash ? `#${hash}` : location.pathname + location.search);
  }

  function recall() {
    if (location.hash && !location.hash.includes("=")) return false; // an anchor
    const kept = new URLSearchParams(location.hash.slice(1));
    ["q", "sort", ...Object.keys(FACETS)].forEach((key) => { state[key] = kept.get(key) ?? ""; });
    state.compare = kept.getAll("compare").slice(0, MOST);
    all("#tools [name]").forEach((field) => { field.value = state[field.name] ?? ""; });
    return true;
  }

  function apply() {
    boards.forEach(sort);
    const shown = filter();
    compare();
    remember();
    document.getElementById("shown").textContent = `${shown} of ${lines.length} rows`;
  }

  function tools() {
    const place = document.getElementById("tools");
    const field = (title, control) => make("label", {}, make("span", {}, title), control);
    const search = make("input", { type: "search", name: "q", autocomplete: "off" });
    place.append(field("search", search));
    Object.entries(FACETS).forEach(([name, of]) => {
      const values = [...new Set(lines.flatMap(({ row, body }) => of(row, body)))].filter(Boolean).sort();
      if (values.length < 2) return;
      place.append(field(name, make("select", { name }, make("option", { value: "" }, "all"),
        ...values.map((value) => make("option", { value }, value)))));
    });
    const reset = make("button", { type: "button" }, "reset");
    place.append(make("div", { class: "told" }, make("span", { id: "shown", role: "status" }), reset));
    place.addEventListener("input", (event) => { state[event.target.name] = event.target.value; apply(); });
    reset.addEventListener("click", () => {
      Object.keys(state).forEach((key) => { state[key] = key === "compare" ? [] : ""; });
      all("#tools [name]").forEach((one) => { one.value = ""; });
      apply();
      search.focus();
    });
    lines.forEach(({ row, id }) => {
      const box = make("input", { type: "checkbox", class: "pick", value: id, "aria-label": `Compare ${row.dataset.k}` });
      box.addEventListener("change", () => {
        state.compare = box.checked ? [...state.compare, id] : state.compare.filter((one) => one !== id);
        apply();
      });
      row.cells[0].prepend(box);
    });
    const jump = make("button", { type: "button", id: "jump", class: "jump" });
    jump.addEventListener("click", () => document.getElementById("compared").scrollIntoView());
    document.getElementById("compared").after(jump);
    place.hidden = false;
  }

  if (boards.length) {
    tools();
    boards.forEach(sortable);
    if (recall()) apply(); else { boards.forEach(sort); compare(); }
    addEventListener("hashchange", () => { if (recall()) apply(); });
  }

  // The menu closes as menus do: by Escape, by a click elsewhere, when the focus leaves it.
  all("details.menu").forEach((menu) => {
    addEventListener("keydown", (event) => {
      if (event.key !== "Escape" || !menu.open) return;
      menu.open = false;
      menu.querySelector("summary").focus();
    });
    addEventListener("click", (event) => { if (!menu.contains(event.target) || event.target.closest("a")) menu.open = false; });
    menu.addEventListener("focusout", (event) => { if (event.relatedTarget && !menu.contains(event.relatedTarget)) menu.open = false; });
  });

  // Boxes that scroll sideways say so in words, while they do.
  const boxes = all(".scroll");
  const hints = new Map(boxes.map((box) => [box, make("p", { class: "hint", "aria-hidden": "true" }, "more columns: scroll →")]));
  boxes.forEach((box) => { hints.get(box).hidden = true; box.before(hints.get(box)); });
  const watch = new ResizeObserver((seen) => seen.forEach(({ target }) => {
    const more = target.scrollWidth > target.clientWidth + 1;
    target.classList.toggle("more", more);
    hints.get(target).hidden = !more;
  }));
  boxes.forEach((box) => watch.observe(box));

  // A button that copies the text beside it; without a clipboard (some browsers, from a file) it selects that text.
  all("[data-copy]").forEach((text) => {
    const button = make("button", { type: "button", class: "copy" }, "Copy");
    button.addEventListener("click", async () => {
      try {
        await navigator.clipboard.writeText(text.textContent);
        button.textContent = "Copied";
      } catch {
        getSelection().selectAllChildren(text);
        button.textContent = "Selected: press Ctrl+C";
      }
    });
    text.before(button);
  });
})();
