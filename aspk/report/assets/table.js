"use strict";
// The table of trials: a click on a column sorts it, words and comparisons filter it, a button copies it as CSV.
const Trials = (() => {
  const { data, shown, genes } = Charts;
  const MOST = 300; // rows shown; the filter finds the others
  const columns = [
    { title: "trial", of: (trial) => trial.n },
    ...(data.measures || []).map((one, i) => ({ title: one.title, name: one.name, of: (trial) => trial.v[i] })),
  ];
  const element = (tag, properties = {}, ...children) => {
    const made = Object.assign(document.createElement(tag), properties);
    made.append(...children);
    return made;
  };
  const value = (trial, name) => {
    const at = (data.measures || []).findIndex((one) => one.name.toLowerCase() === name);
    if (at >= 0) return trial.v[at];
    const gene = data.genes.findIndex((one) => one.name.toLowerCase() === name);
    if (gene < 0) return name === "trial" ? trial.n : undefined;
    return trial.g[gene] === null ? null : data.genes[gene].choices[trial.g[gene]];
  };
  const tests = { "<": (a, b) => a < b, ">": (a, b) => a > b, "<=": (a, b) => a <= b, ">=": (a, b) => a >= b,
    "=": (a, b) => String(a) === b || Number(a) === Number(b), "!=": (a, b) => String(a) !== b && Number(a) !== Number(b) };

  // A plain word matches if the row contains it; name<number, name=value and so on are compared.
  function matches(trial, words) {
    const text = [trial.n, trial.k, ...genes(trial)].join(" ").toLowerCase();
    return words.every((word) => {
      const parts = word.match(/^([^<>=!]+)(<=|>=|!=|<|>|=)(.+)$/);
      if (!parts) return text.includes(word);
      const found = value(trial, parts[1]);
      if (found === undefined) return text.includes(word);
      if (found === null) return false;
      return parts[2].includes("<") || parts[2].includes(">")
        ? tests[parts[2]](Number(found), Number(parts[3])) : tests[parts[2]](found, parts[3]);
    });
  }

  function build(place, state, select) {
    const filter = element("input", { type: "search", placeholder: "filter, for instance: depth=2 accuracy>0.9" });
    filter.setAttribute("aria-label", "filter the table");
    const only = element("input", { type: "checkbox", checked: data.front.length > 0 && !data.single });
    const copy = element("button", { type: "button", textContent: "copy as CSV" });
    const count = element("span", { className: "note" });
    const body = element("tbody"), head = element("tr");
    const titles = [...columns.map((column) => column.title), "genes"];
    const sorted = { column: 1, falling: (data.measures[0] || {}).better === "maximize" };
    titles.forEach((title, column) => {
      const cell = element("th", { className: column < columns.length ? "" : "genes" });
      cell.append(column < columns.length ? element("button", { type: "button", textContent: title,
        onclick: () => { sorted.falling = sorted.column === column ? !sorted.falling : false; sorted.column = column; show(); } })
        : document.createTextNode(title));
      head.append(cell);
    });

    function rows() {
      const words = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
      const { of } = columns[sorted.column], sign = sorted.falling ? -1 : 1;
      return data.trials
        .filter((trial) => (!only.checked || trial.k === "front") && (state.kept === null || state.kept.has(trial.n)))
        .filter((trial) => matches(trial, words))
        .sort((a, b) => {
          const [p, q] = [of(a), of(b)];
          if (p === null || q === null) return (p === null) - (q === null);
          return p === q ? a.n - b.n : sign * (p - q);
        });
    }

    function show() {
      const found = rows();
      [...head.children].forEach((cell, column) => {
        const order = column === sorted.column ? (sorted.falling ? "descending" : "ascending") : "none";
        if (column < columns.length) cell.setAttribute("aria-sort", order);
      });
      body.replaceChildren(...found.slice(0, MOST).map((trial) => {
        const row = element("tr", { onclick: () => select(trial.n) });
        row.dataset.trial = trial.n;
        row.classList.toggle("selected", trial.n === state.selected);
        columns.forEach((column) => row.append(element("td", { textContent: shown(column.of(trial)) })));
        const said = genes(trial).join(", ");
        row.append(element("td", { className: "genes", textContent: said, title: said }));
        return row;
      }));
      const left = data.left_out ? `; ${data.left_out} older trials are not on this page` : "";
      count.textContent = `${Math.min(found.length, MOST)} of ${data.trials.length} trials${left}`;
    }

    function csv() {
      const quoted = (cell) => `"${String(cell ?? "").replaceAll('"', '""').replace(/^[=+\-@\t]/, "'$&")}"`;
      const lines = rows().map((trial) => [...columns.map((column) => column.of(trial)),
        ...data.genes.map((gene, i) => (trial.g[i] === null ? "" : gene.choices[trial.g[i]]))]);
      const plain = (cell) => (typeof cell === "number" ? String(cell) : quoted(cell));
      return [[...columns.map((column) => column.title), ...data.genes.map((gene) => gene.name)], ...lines]
        .map((line) => line.map(plain).join(",")).join("\n");
    }

    filter.oninput = only.onchange = show;
    copy.onclick = () => Page.copy(csv(), copy);
    const tools = element("div", { className: "tools" }, filter, element("label", {}, only, data.single ? " best only" : " front only"), copy, count);
    const table = element("table", {}, element("thead", {}, head), body);
    place.replaceChildren(tools, element("div", { className: "scroll" }, table));
    show();
    return { show };
  }
  return { build };
})();
