"use strict";
// Makes the page interactive: live figures replace still ones, and a selected network is marked in all of them.
const Page = (() => {
  const { data, byNumber, options, heights, shown, genes } = Charts;
  const state = { x: null, y: 0, selected: data.chosen ?? null, kept: null }; // measures on the axes, a trial, trials
  if (!data.single && data.objectives > 1) state.x = 1;
  const live = {};
  let table = null;

  async function copy(words, button) {
    const said = button.textContent;
    try {
      await navigator.clipboard.writeText(words);
      button.textContent = "copied";
    } catch {
      const area = Object.assign(document.createElement("textarea"), { value: words });
      document.body.append(area);
      area.select();
      button.textContent = document.execCommand("copy") ? "copied" : "not allowed";
      area.remove();
    }
    setTimeout(() => { button.textContent = said; }, 1500);
  }

  function draw(name) {
    live[name].setOption(options[name](state), { notMerge: true });
  }

  function start(name) {
    const figure = document.getElementById(name);
    if (!figure || (name === "energy" && !data.layers.length)) return;
    const place = figure.querySelector(".live");
    place.hidden = false;
    place.style.height = `${heights[name]()}px`;
    if (name === "parallel") { place.style.minWidth = "768px"; figure.classList.add("scroll"); }
    figure.querySelector(".still").hidden = true;
    live[name] = echarts.init(place);
    draw(name);
  }

  // ---------------------------------------------------------------- selecting

  function details(number) {
    const trial = byNumber.get(number);
    const box = document.createElement("div");
    box.className = "network unlisted";
    const lines = [`trial ${number}, ${trial.k === "front" ? "on the front" : trial.k}`,
      data.measures.map((one, i) => `${one.title} ${shown(trial.v[i])}`).join(", "), genes(trial).join(", "),
      "Its layers are not on this page: 'aspk report ... --trials " + number + "' draws them."];
    for (const line of lines) box.append(Object.assign(document.createElement("p"), { textContent: line }));
    return box;
  }

  function showNetwork() {
    const section = document.getElementById("what");
    const drawn = [...section.querySelectorAll("details.network")];
    section.querySelector(".unlisted")?.remove();
    if (!drawn.length) return;
    const own = drawn.find((one) => Number(one.dataset.trial) === state.selected);
    for (const one of drawn) { one.hidden = one !== own; one.open = one === own; }
    if (!own && byNumber.has(state.selected)) section.querySelector("h2").after(details(state.selected));
  }

  function select(number) {
    state.selected = number;
    if (live.front) draw("front");
    table?.show();
    showNetwork();
    const note = document.getElementById("selected");
    if (note) note.querySelector("span").textContent = `selected: trial ${number}`;
  }

  // ---------------------------------------------------------------- controls

  function choice(title, value, onchange) {
    const select = document.createElement("select");
    data.measures.forEach((one, i) => select.append(new Option(one.title, i, i === value, i === value)));
    if (data.single && title === "x") select.prepend(new Option("trial", "", value === null, value === null));
    select.onchange = () => onchange(select.value === "" ? null : Number(select.value));
    const label = document.createElement("label");
    label.append(`${title} `, select);
    return label;
  }

  function tools() {
    const row = document.createElement("div");
    row.className = "tools";
    row.append(choice("x", state.x, (i) => { state.x = i; draw("front"); }),
      choice("y", state.y, (i) => { state.y = i; draw("front"); }));
    const note = document.createElement("span");
    note.id = "selected";
    const link = Object.assign(document.createElement("a"), { href: "#what", textContent: "its network" });
    note.append(document.createElement("span"), " ", link);
    row.append(note);
    document.getElementById("front").before(row);
  }

  function filterByAxes() {
    live.parallel.on("axisareaselected", () => {
      const rows = live.parallel.getModel().getSeriesByIndex(0).getRawIndicesByActiveState("active");
      state.kept = rows.length && rows.length < data.trials.length ? new Set(rows.map((i) => data.trials[i].n)) : null;
      draw("front");
      table?.show();
    });
  }

  function begin() {
    for (const button of document.querySelectorAll(".command button")) {
      button.hidden = false;
      button.onclick = () => copy(button.previousElementSibling.textContent, button);
    }
    for (const note of document.querySelectorAll(".alive")) note.hidden = false;
    for (const link of document.querySelectorAll("a.trial")) {
      link.addEventListener("click", () => select(Number(link.dataset.trial)));
    }
    const trials = document.getElementById("trials");
    if (trials && data.trials.length) {
      if (document.getElementById("front")) tools();
      trials.querySelector(".still").hidden = true;
      trials.querySelector(".live").hidden = false;
      table = Trials.build(trials.querySelector(".live"), state, select);
    }
    for (const name of Object.keys(options)) if (name !== "front" || !data.trials || data.trials.length) start(name);
    live.front?.on("click", (one) => { if (Number.isInteger(one.value?.[2])) select(one.value[2]); });
    if (live.parallel) filterByAxes();
    if (state.selected !== null && document.getElementById("what")) select(state.selected);
    const redraw = () => { for (const name of Object.keys(live)) draw(name); };
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
    addEventListener("resize", () => { for (const one of Object.values(live)) one.resize(); });
  }
  begin();
  return { state, live, select, copy };
})();
