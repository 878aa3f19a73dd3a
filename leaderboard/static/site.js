// Sorting, filtering, comparing. Everything shown is set as text; the state is in the address, so that a view can be sent to somebody.
"use strict";
const $ = (selector) => document.querySelector(selector);
const make = (tag, text, attributes = {}) => {
  const element = document.createElement(tag);
  if (text !== undefined && text !== null) element.textContent = text;
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  return element;
};
const state = () => new URLSearchParams(location.hash.slice(1));
const remember = (entries) => {
  const kept = new URLSearchParams(Object.entries(entries).filter(([, value]) => value));
  history.replaceState(null, "", kept.size ? "#" + kept : location.pathname + location.search);
};
const compare = (a, b) => (a === b ? 0 : a === null || a === "" ? 1 : b === null || b === "" ? -1 : a < b ? -1 : 1);

// Static tables: a button in each heading sorts the rows that are there.
for (const table of document.querySelectorAll("table.sortable")) {
  const headings = [...table.tHead.rows[0].cells];
  headings.forEach((heading, column) => {
    const button = make("button", heading.textContent, { type: "button" });
    heading.replaceChildren(button);
    button.addEventListener("click", () => {
      const down = heading.getAttribute("aria-sort") === "ascending";
      headings.forEach((other) => other.removeAttribute("aria-sort"));
      heading.setAttribute("aria-sort", down ? "descending" : "ascending");
      const key = (row) => {
        const text = row.cells[column].textContent.trim();
        const number = parseFloat(text);
        return text === "–" ? "" : heading.classList.contains("num") && !Number.isNaN(number) ? number : text;
      };
      const rows = [...table.tBodies[0].rows].map((row) => [key(row), row]);
      rows.sort(([a], [b]) => (a === "" || b === "" ? compare(a, b) : down ? compare(b, a) : compare(a, b)));
      table.tBodies[0].append(...rows.map(([, row]) => row));
    });
  });
}

// A table opened at one run shows it.
const open = () => { const there = document.getElementById(decodeURIComponent(location.hash.slice(1))); if (there && there.tagName === "DETAILS") there.open = true; };
if (!window.BOARD) { open(); addEventListener("hashchange", open); }

if (window.BOARD) {
  const { names, columns, shown, help, pages, tasks, references } = window.BOARD;
  const size = columns.label.length;
  const filters = ["modality", "task", "model", "ratio", "variant", "level"];
  const fixed = (value, scale) => (value === null ? "–" : (value / scale).toFixed(1));
  const cell = (column, i) => fixed(columns[column.name][i], column.scale)
    + (columns[column.name + "_half_width"][i] === null ? "" : " ±" + fixed(columns[column.name + "_half_width"][i], column.scale));
  const text = (name, i) => (name in names ? names[name][columns[name][i]] : columns[name][i]);

  if ($("#board")) {
    const form = $("#filters"), head = $("#board").tHead, body = $("#board").tBodies[0], page = 100;
    const view = [{ name: "rank", header: "#" }, { name: "label", header: "method", words: true }, { name: "task", header: "task", words: true },
      { name: "model", header: "model", words: true }, { name: "ratio", header: "ratio, %" }, ...shown, { name: "n", header: "n" },
      { name: "variant", header: "variant", words: true }, { name: "level", header: "level", words: true }];
    for (const name of filters) {
      const label = make("label", name + " "), select = make("select", null, { name });
      select.append(make("option", "all", { value: "" }));
      const sorted = [...names[name]].sort((a, b) => (name === "ratio" ? parseFloat(a) - parseFloat(b) : compare(a, b)));
      select.append(...sorted.map((value) => make("option", value, { value })));
      label.append(select);
      form.append(label);
    }
    let sort = "", down = false, limit = page, rows = [];
    const key = (name) => (name === "ratio" ? (i) => parseFloat(text(name, i)) : name in names ? (i) => text(name, i) : (i) => columns[name][i]);

    const headings = view.map((column) => {
      const cell = make("th", null, { scope: "col", class: column.words ? "" : "num", title: column.help || help[column.name] || "" });
      const button = make("button", column.header, { type: "button" });
      button.addEventListener("click", () => {
        down = sort === column.name ? !down : Boolean(column.help && column.header.includes("↑"));
        sort = column.name;
        limit = page;
        show();
      });
      cell.append(button);
      return cell;
    });
    const heading = make("tr");
    heading.append(...headings);
    head.append(heading);
    for (const column of view) $("#help").append(make("dt", column.header), make("dd", column.help || help[column.name] || ""));

    const read = () => {
      const said = state();
      for (const field of form.elements) if (field.name) field.value = said.get(field.name) || "";
      sort = view.some((column) => column.name === said.get("sort")) ? said.get("sort") : "";
      down = said.get("down") === "1";
    };
    const choose = () => {
      const wanted = filters.map((name) => [columns[name], form.elements[name].value && names[name].indexOf(form.elements[name].value)])
        .filter(([, value]) => value !== "");
      const words = form.elements.q.value.trim().toLowerCase();
      const named = words && names.label.map((label) => label.toLowerCase().includes(words));
      rows = [];
      for (let i = 0; i < size; i += 1) {
        if (wanted.every(([column, value]) => column[i] === value) && (!named || named[columns.label[i]])) rows.push(i);
      }
      if (sort) {
        const keys = new Array(size), of = key(sort);
        for (const i of rows) keys[i] = of(i);
        rows.sort((a, b) => (keys[a] === null || keys[b] === null ? compare(keys[a], keys[b]) : down ? compare(keys[b], keys[a]) : compare(keys[a], keys[b])) || a - b);
      }
    };
    const line = (i) => {
      const row = make("tr", null, references.includes(columns.label[i]) ? { class: text("label", i) } : {});
      for (const column of view) {
        if (column.name === "label" || column.name === "task") {
          const cell = make(column.name === "label" ? "th" : "td", null, column.name === "label" ? { scope: "row" } : {});
          cell.append(make("a", text(column.name, i), { href: (column.name === "label" ? pages : tasks)[columns[column.name][i]] }));
          row.append(cell);
        } else if (column.name === "level") {
          const cell = make("td");
          cell.append(make("span", text("level", i), { class: "level " + text("level", i) }));
          row.append(cell);
        } else if (column.scale) row.append(make("td", cell(column, i), { class: "num" }));
        else row.append(make("td", text(column.name, i) ?? "", column.words ? {} : { class: "num" }));
      }
      return row;
    };
    const show = () => {
      choose();
      body.replaceChildren(...rows.slice(0, limit).map(line));
      headings.forEach((cell, at) => (view[at].name === sort ? cell.setAttribute("aria-sort", down ? "descending" : "ascending") : cell.removeAttribute("aria-sort")));
      $("#count").textContent = `${rows.length} of ${size} rows` + (rows.length > limit ? `, the first ${limit} shown` : "");
      $("#more").hidden = rows.length <= limit;
      remember({ ...Object.fromEntries(new FormData(form)), sort, down: down ? "1" : "" });
    };
    form.addEventListener("input", () => { limit = page; show(); });
    form.addEventListener("submit", (event) => event.preventDefault());
    $("#clear").addEventListener("click", () => { form.reset(); sort = ""; down = false; limit = page; show(); });
    $("#more").addEventListener("click", () => { limit += 10 * page; show(); });
    $("#download").addEventListener("click", () => {
      const quote = (value) => {
        let said = value === null || value === undefined ? "" : String(value);
        if (typeof value === "string" && /^[=+\-@\t\r]/.test(said)) said = "'" + said;
        return /[",\n\r]/.test(said) ? `"${said.replaceAll('"', '""')}"` : said;
      };
      const head = view.flatMap((column) => (column.scale ? [column.name, column.name + "_half_width"] : [column.name]));
      const value = (name, i) => {
        const of = shown.find((column) => name === column.name || name === column.name + "_half_width");
        const found = text(name, i);
        return of && found !== null ? found / (of.scale === 10 ? 1000 : 100) : found;
      };
      const lines = [head.join(","), ...rows.map((i) => head.map((name) => quote(value(name, i))).join(","))];
      const link = make("a", null, { href: URL.createObjectURL(new Blob([lines.join("\r\n") + "\r\n"], { type: "text/csv" })), download: "mubench.csv" });
      link.click();
      setTimeout(() => URL.revokeObjectURL(link.href), 1000);
    });
    addEventListener("hashchange", () => { read(); show(); });
    read();
    show();
  }

  if ($("#pair")) {
    const form = $("#pair"), head = $("#comparison").tHead, body = $("#comparison").tBodies[0];
    const sorted = [...names.label].sort(compare);
    for (const field of ["a", "b"]) form.elements[field].append(...sorted.map((value) => make("option", value, { value })));
    const place = (i) => ["task", "model", "ratio"].map((name) => text(name, i)).join(" / ") + " %";
    const rivals = sorted.filter((name) => !references.includes(names.label.indexOf(name)));
    const read = () => {
      const said = state();
      form.elements.a.value = names.label.includes(said.get("a")) ? said.get("a") : rivals[0] || sorted[0];
      form.elements.b.value = names.label.includes(said.get("b")) ? said.get("b") : rivals[1] || sorted[sorted.length - 1];
    };
    const chosen = shown.filter((column) => ["gap_to_retrain", "test_score", "forget_score", "overall", "relative_flops"].includes(column.name));
    const show = () => {
      const [a, b] = ["a", "b"].map((field) => names.label.indexOf(form.elements[field].value));
      const of = (label) => { const found = new Map(); for (let i = 0; i < size; i += 1) if (columns.label[i] === label && !found.has(place(i))) found.set(place(i), i); return found; };
      const mine = of(a), theirs = of(b), common = [...mine.keys()].filter((group) => theirs.has(group));
      const top = make("tr"), under = make("tr");
      top.append(make("th", "task / model / ratio", { scope: "col", rowspan: "2" }),
        ...chosen.map((column) => make("th", column.header, { scope: "colgroup", colspan: "2", class: "num", title: column.help })),
        make("th", "n", { scope: "col", rowspan: "2", class: "num", title: help.n }));
      under.append(...chosen.flatMap(() => [make("th", names.label[a], { scope: "col", class: "num" }), make("th", names.label[b], { scope: "col", class: "num" })]));
      head.replaceChildren(top, under);
      let won = 0, lost = 0;
      body.replaceChildren(...common.map((group) => {
        const i = mine.get(group), j = theirs.get(group), row = make("tr");
        row.append(make("th", group, { scope: "row" }));
        for (const column of chosen) {
          const [x, y] = [columns[column.name][i], columns[column.name][j]];
          const better = column.header.includes("↑") ? x - y : column.header.includes("↓") ? y - x : 0;
          const known = x !== null && y !== null;
          if (column.name === "gap_to_retrain" && known) { won += better > 0; lost += better < 0; }
          for (const [at, wins] of [[i, better > 0], [j, better < 0]]) {
            const there = make("td", known && wins ? null : cell(column, at), { class: "num" });
            if (known && wins) there.append(make("strong", cell(column, at)));
            row.append(there);
          }
        }
        row.append(make("td", [...new Set([columns.n[i], columns.n[j]])].join(", "), { class: "num" }));
        return row;
      }));
      $("#verdict").textContent = common.length ? `${names.label[a]} has the smaller gap to retrain in ${won} of ${common.length} groups, ${names.label[b]} in ${lost}.`
        : `${names.label[a]} and ${names.label[b]} share no group.`;
      remember(Object.fromEntries(new FormData(form)));
    };
    form.addEventListener("input", show);
    addEventListener("hashchange", () => { read(); show(); });
    read();
    show();
  }
}
