"use strict";
// The live figures, as options of Apache ECharts. Names from the study are drawn on a canvas or set as text.
const Charts = (() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const BLUE = "#3b82f6", PALE = "#8b949e", RED = "#e5484d", AMBER = "#d97706", GREEN = "#2f9e6e", VIOLET = "#a855f7";
  const LINES = [BLUE, AMBER, GREEN, VIOLET, RED, PALE];
  const MAP = ["#440154", "#3b528b", "#21918c", "#5ec962", "#fde725"];
  const byNumber = new Map((data.trials || []).map((trial) => [trial.n, trial]));

  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const narrow = () => document.documentElement.clientWidth < 600;
  const short = (text, most = narrow() ? 18 : 30) => (text.length > most ? text.slice(0, most - 1) + "…" : text);
  const shown = (value) => {
    if (value === null || value === undefined) return "–";
    if (typeof value !== "number") return String(value);
    if (Number.isInteger(value)) return value.toLocaleString("en");
    return Math.abs(value) >= 1e4 ? Math.round(value).toLocaleString("en") : String(Number(value.toPrecision(4)));
  };
  const genes = (trial) =>
    data.genes.map((gene, i) => (trial.g[i] === null ? null : `${gene.name} = ${gene.choices[trial.g[i]]}`))
      .filter((text) => text !== null);

  function tip(title, lines) {
    const box = document.createElement("div");
    box.className = "tip";
    box.append(Object.assign(document.createElement("b"), { textContent: title }));
    for (const line of lines) box.append(Object.assign(document.createElement("div"), { textContent: line }));
    return box;
  }

  function trialTip(number) {
    const trial = byNumber.get(number);
    if (!trial) return tip(`trial ${number}`, []);
    const lines = data.measures.map((one, i) => {
      if (trial.v[i] === null) return null;
      const error = one.accuracy && trial.e !== null ? ` ± ${shown(trial.e)}` : "";
      return `${one.title}: ${shown(trial.v[i])}${error}`;
    });
    const names = data.picks.filter((pick) => pick.trial === number).map((pick) => pick.name);
    const title = `trial ${number}${names.length ? `: ${names.join(", ")}` : ""}`;
    return tip(title, [...lines.filter((line) => line !== null), genes(trial).join(", ")]);
  }

  // ---------------------------------------------------------------- axes

  const wide = (values) => {
    const least = Math.min(...values), most = Math.max(...values);
    return values.length > 1 && least > 0 && most > 8 * least;
  };

  function logTicks(low, high) {
    const from = Math.floor(Math.log10(low)), to = Math.ceil(Math.log10(high));
    const decades = Math.log10(high / low), room = narrow() ? 1.7 : 3;
    const steps = decades <= room ? [1, 2, 5] : decades <= 2 * room ? [1, 3] : [1];
    const found = [];
    for (let power = from; power <= to; power++) for (const step of steps) found.push(Number(`${step}e${power}`));
    return found.filter((tick) => tick >= low && tick <= high);
  }

  function axis(name, values, options = {}) {
    const ink = colour("--ink"), line = colour("--line");
    const known = values.filter((value) => value !== null && Number.isFinite(value));
    const look = {
      name: short(name, 40), nameLocation: "middle", nameTextStyle: { color: ink },
      axisLabel: { color: ink, formatter: (value) => shown(value), hideOverlap: true },
      axisLine: { show: true, lineStyle: { color: line } }, splitLine: { lineStyle: { color: line, opacity: 0.5 } },
      ...options,
    };
    if (!known.length) return { type: "value", ...look };
    const least = Math.min(...known), most = Math.max(...known), room = (most - least || Math.abs(most) || 1) * 0.06;
    if (!wide(known)) return { type: "value", min: least - room, max: most + room, ...look,
      axisLabel: { ...look.axisLabel, showMinLabel: false, showMaxLabel: false } };
    const min = least / 1.2, max = most * 1.2, ticks = logTicks(min, max);
    return { type: "log", min, max, ...look, minorTick: { show: false },
      axisTick: { customValues: ticks }, axisLabel: { ...look.axisLabel, customValues: ticks } };
  }

  const legend = (names) => ({ data: names, top: 0, type: "scroll", textStyle: { color: colour("--ink") },
    pageTextStyle: { color: colour("--ink") } });
  const tooltip = (formatter, trigger = "item") => ({ trigger, formatter, confine: true,
    backgroundColor: colour("--tile"), borderColor: colour("--line"), textStyle: { color: colour("--ink") } });
  const base = () => ({ animation: false, aria: { enabled: false },
    textStyle: { fontFamily: "system-ui, sans-serif", color: colour("--ink") } });

  // ---------------------------------------------------------------- objective space

  function front(state) {
    const { x, y } = state;
    const place = (trial) => [x === null ? trial.n : trial.v[x], trial.v[y]];
    const own = x !== null && x < data.objectives && y < data.objectives;
    const usable = data.trials.filter((trial) => place(trial).every((value) => value !== null));
    const faded = (trial) => state.kept !== null && !state.kept.has(trial.n);
    const points = (kind) => usable.filter((trial) => trial.k === kind)
      .map((trial) => ({ value: [...place(trial), trial.n], itemStyle: faded(trial) ? { opacity: 0.08 } : {} }));
    const scatter = (name, color, size, more = {}) => ({ name, type: "scatter", data: points(more.kind || name),
      symbolSize: size, itemStyle: { color, opacity: 0.9 }, emphasis: { scale: 1.6 }, ...more });
    const best = data.single ? "best" : "front";
    const series = [
      scatter("dominated", PALE, 7, { itemStyle: { color: PALE, opacity: 0.45 } }),
      scatter("infeasible", RED, 7, { symbol: "path://M0,1L1,0L5,4L9,0L10,1L6,5L10,9L9,10L5,6L1,10L0,9L4,5Z" }),
      scatter(best, BLUE, 10, { kind: "front", z: 4 }),
    ];
    const shownNames = series.filter((one) => one.data.length).map((one) => one.name);
    const named = (index) => (index === null ? "" : data.measures[index].name);
    const arrived = named(x) === "energy" && named(y) === "accuracy"
      ? data.trained.filter((one) => byNumber.has(one.trial)) : [];
    const errors = data.measures[y].accuracy
      ? usable.filter((trial) => trial.k === "front" && trial.e !== null).map((t) => [...place(t), t.e]) : [];
    errors.push(...arrived.filter((one) => one.e !== null).map((one) => [one.energy, one.accuracy, one.e]));
    series.push({ name: "standard error", type: "custom", data: errors, silent: true, z: 2, tooltip: { show: false },
      renderItem: (_, api) => {
        const [px, top] = api.coord([api.value(0), api.value(1) + api.value(2)]);
        const bottom = api.coord([api.value(0), api.value(1) - api.value(2)])[1];
        return { type: "line", shape: { x1: px, y1: top, x2: px, y2: bottom },
          style: { stroke: BLUE, lineWidth: 1, opacity: 0.5 } };
      } });
    if (own && data.objectives === 2 && x !== y) {
      const sorted = points("front").map((one) => one.value).sort((a, b) => a[0] - b[0]);
      const step = data.measures[x].better === "minimize" ? "end" : "start";
      series.push({ name: "border", type: "line", step, data: sorted, symbol: "none", silent: true, z: 1,
        lineStyle: { color: BLUE, width: 1, opacity: 0.6 }, tooltip: { show: false } });
    }
    if (data.single && x === null && y === 0) {
      series.push({ name: "best so far", type: "line", step: "end", symbol: "none", silent: true, z: 2, tooltip: { show: false },
        data: data.best, lineStyle: { color: BLUE, width: 2 }, itemStyle: { color: BLUE } });
      shownNames.push("best so far");
    }
    if (data.reference && own) {
      shownNames.push("reference");
      series.push({ name: "reference", type: "scatter", symbolSize: 16, itemStyle: { color: AMBER }, z: 3,
        symbol: "path://M12,0L15,9L24,9L17,14L20,23L12,17L4,23L7,14L0,9L9,9Z",
        data: [{ value: [data.reference[x], data.reference[y]] }] });
    }
    if (arrived.length) {
      shownNames.push("trained alone");
      series.push({ name: "trained alone", type: "scatter", symbol: "diamond", symbolSize: 12, z: 5,
        itemStyle: { color: GREEN }, data: arrived.map((one) => ({ value: [one.energy, one.accuracy, one.trial] })),
        markLine: { silent: true, symbol: "none", lineStyle: { color: GREEN, type: "solid" },
          data: arrived.map((one) => [{ coord: place(byNumber.get(one.trial)) }, { coord: [one.energy, one.accuracy] }]) } });
    }
    const started = named(x) === "energy" && named(y) === "accuracy"
      ? data.inherited.filter((one) => byNumber.has(one.trial) && one.energy !== null && one.accuracy !== null) : [];
    if (started.length) {
      shownNames.push("with inherited weights");
      series.push({ name: "with inherited weights", type: "scatter", symbol: "emptyCircle", symbolSize: 7, z: 3,
        itemStyle: { color: GREEN }, data: started.map((one) => ({ value: [one.energy, one.accuracy, one.trial] })),
        markLine: { silent: true, symbol: "none", lineStyle: { color: GREEN, type: "solid", opacity: 0.7 },
          data: started.map((one) => [{ coord: [one.energy, one.accuracy] }, { coord: place(byNumber.get(one.trial)) }]) } });
    }
    const bounds = [[x, "xAxis"], [y, "yAxis"]].filter(([index]) => named(index) in data.bounds)
      .map(([index, key]) => ({ [key]: data.bounds[named(index)] }));
    if (bounds.length) {
      shownNames.push("bound");
      series.push({ name: "bound", type: "line", data: [], symbol: "none", lineStyle: { color: RED, type: "dashed" },
        itemStyle: { color: RED }, markLine: { silent: true, symbol: "none", data: bounds,
          lineStyle: { color: RED, type: "dashed" }, label: { show: false } } });
    }
    const selected = byNumber.get(state.selected);
    series.push({ name: "selected", type: "scatter", symbolSize: 20, silent: true, z: 6, tooltip: { show: false },
      itemStyle: { color: "transparent", borderColor: colour("--ink"), borderWidth: 2 },
      data: selected && place(selected).every((value) => value !== null) ? [place(selected)] : [] });
    const all = [...usable.map(place), ...(own && data.reference ? [[data.reference[x], data.reference[y]]] : []),
      ...[...arrived, ...started].map((one) => [one.energy, one.accuracy]), ...errors.flatMap((one) => [[one[0], one[1] + one[2]], [one[0], one[1] - one[2]]])];
    const xs = [...all.map((one) => one[0]), ...bounds.map((one) => one.xAxis ?? null)];
    const ys = [...all.map((one) => one[1]), ...bounds.map((one) => one.yAxis ?? null)];
    return { ...base(), legend: legend(shownNames), series,
      grid: { left: 26, right: 16, top: 40, bottom: 28, containLabel: true },
      xAxis: axis(x === null ? "trial" : data.measures[x].title, xs, { nameGap: 28 }),
      yAxis: axis(data.measures[y].title, ys, { nameGap: 44 }),
      tooltip: tooltip((one) => one.seriesName === "reference" ? tip("reference", data.measures.slice(0, data.objectives)
        .map((measure, i) => `${measure.title}: ${shown(data.reference[i])}`)) : trialTip(one.value[2])) };
  }

  // ---------------------------------------------------------------- what was learnt

  function bars(rows, series, name) {
    return { ...base(), legend: series.length > 1 ? legend(series.map((one) => one.name)) : undefined,
      grid: { left: 20, right: 16, top: series.length > 1 ? 36 : 12, bottom: 28, containLabel: true },
      xAxis: axis(name, [], { nameGap: 28 }),
      yAxis: { type: "category", data: rows.map((row) => short(row)), inverse: true,
        axisLabel: { color: colour("--ink"), interval: 0, fontSize: 11 }, axisTick: { show: false },
        axisLine: { lineStyle: { color: colour("--line") } } },
      series: series.map((one, i) => ({ type: "bar", barMaxWidth: 14, itemStyle: { color: LINES[i % LINES.length] }, ...one })),
      tooltip: tooltip((all) => tip(rows[all[0].dataIndex], all.map((one) => `${one.seriesName}: ${shown(one.value)}`)), "axis") };
  }

  const MOST = 15;
  const important = () => {
    const most = new Map();
    for (const one of Object.values(data.importances)) {
      for (const [gene, share] of one.genes) most.set(gene, Math.max(share, most.get(gene) || 0));
    }
    return [...most].sort((a, b) => b[1] - a[1]).slice(0, MOST).map(([gene]) => gene);
  };

  function importance() {
    const rows = important();
    const series = Object.entries(data.importances).map(([name, one]) => {
      const shares = new Map(one.genes);
      return { name: `${name} (${Math.round(100 * one.explained)}% explained)`, data: rows.map((row) => shares.get(row) ?? 0) };
    });
    return bars(rows, series, "share of the variance");
  }

  function along() {
    const cells = [];
    data.front.forEach((number, column) => {
      const trial = byNumber.get(number);
      data.genes.forEach((gene, row) => {
        if (trial && trial.g[row] !== null) cells.push([column, row, trial.g[row] / Math.max(1, gene.choices.length - 1)]);
      });
    });
    const label = { color: colour("--ink"), fontSize: 11 };
    return { ...base(), grid: { left: 20, right: 12, top: 8, bottom: 28, containLabel: true },
      xAxis: { type: "category", data: data.front.map(String), axisLabel: label, name: "trial, from the cheapest to the most expensive",
        nameLocation: "middle", nameGap: 28, nameTextStyle: { color: colour("--ink") }, axisTick: { show: false } },
      yAxis: { type: "category", inverse: true, data: data.genes.map((gene) => short(gene.name)),
        axisLabel: { ...label, interval: 0 }, axisTick: { show: false } },
      visualMap: { show: false, min: 0, max: 1, inRange: { color: MAP } },
      series: [{ type: "heatmap", data: cells, itemStyle: { borderColor: colour("--back"), borderWidth: 1 } }],
      tooltip: tooltip((one) => {
        const trial = byNumber.get(data.front[one.value[0]]), gene = data.genes[one.value[1]];
        return tip(`trial ${trial.n}`, [`${gene.name} = ${gene.choices[trial.g[one.value[1]]]}`]);
      }) };
  }

  function parallel() {
    const order = important(), places = data.genes.map((_, i) => i);
    const kept = places.filter((i) => !order.length || order.slice(0, 10).includes(data.genes[i].name)).slice(0, 12);
    const goals = data.measures.map((_, i) => i).slice(0, data.objectives);
    const ink = colour("--ink");
    const look = { nameTextStyle: { color: ink, fontSize: 11 }, axisLabel: { color: ink, fontSize: 10 },
      axisLine: { lineStyle: { color: colour("--line") } }, nameLocation: "end" };
    const axes = kept.map((i, dim) => ({ dim, name: short(data.genes[i].name.replace(/^blocks?\./, ""), 14), ...look,
      type: "value", min: 0, max: Math.max(1, data.genes[i].choices.length - 1), interval: 1,
      axisLabel: { ...look.axisLabel, formatter: (rank) => short(data.genes[i].choices[rank] ?? "", 8) } }));
    goals.forEach((i, place) => {
      const one = axis("", data.trials.map((trial) => trial.v[i]));
      axes.push({ dim: kept.length + place, ...look, type: one.type, min: one.min, max: one.max,
        name: short(data.measures[i].title, 14), axisLabel: { ...one.axisLabel, ...look.axisLabel, formatter: shown } });
    });
    const first = data.trials.map((trial) => trial.v[0]).filter((value) => value !== null);
    const rows = data.trials.map((trial) => ({ name: String(trial.n),
      value: [...kept.map((i) => trial.g[i] ?? "-"), ...goals.map((i) => trial.v[i] ?? "-")],
      lineStyle: trial.k === "front" ? { width: 2, opacity: 0.95 } : { width: 1, opacity: 0.18 } }));
    return { ...base(), parallelAxis: axes,
      parallel: { left: 46, right: 60, top: 40, bottom: 24, parallelAxisDefault: { areaSelectStyle: { width: 16 } } },
      visualMap: { show: false, dimension: kept.length, min: Math.min(...first), max: Math.max(...first), inRange: { color: MAP.slice(0, 4) } },
      series: [{ type: "parallel", data: rows, smooth: 0, inactiveOpacity: 0.03, activeOpacity: 0.9, lineStyle: { width: 1 } }] };
  }

  function progress() {
    const all = data.curves.filter((curve) => curve.points.length);
    const label = data.single ? `best ${data.measures[0].title} so far` : "hypervolume";
    return { ...base(), legend: all.length > 1 ? legend(all.map((curve) => curve.name)) : undefined,
      grid: { left: 26, right: 16, top: all.length > 1 ? 36 : 12, bottom: 28, containLabel: true },
      xAxis: { ...axis("evaluations", [], { nameGap: 28 }), min: 1 },
      yAxis: axis(label, all.flatMap((curve) => curve.points.map((point) => point[1])), { nameGap: 44 }),
      series: all.map((curve, i) => ({ name: curve.name, type: "line", step: "end", symbol: "none", data: curve.points,
        lineStyle: { color: LINES[i % LINES.length], width: i ? 1.3 : 2 }, itemStyle: { color: LINES[i % LINES.length] } })),
      tooltip: tooltip((found) => tip(`${found[0].value[0]} evaluations`,
        found.map((one) => `${one.seriesName}: ${shown(one.value[1])}`)), "axis") };
  }

  function energy() {
    const rows = [...new Set(data.layers.flatMap((one) => Object.keys(one.bills)))];
    rows.sort((a, b) => (a === "head") - (b === "head"));
    const series = data.layers.map((one) => ({ name: `trial ${one.trial}: ${one.title}`,
      data: rows.map((row) => one.bills[row] ?? null) }));
    return bars(rows, series, `${data.unit} per image`);
  }

  function fronts() {
    const ink = colour("--ink");
    const all = data.fronts.filter((one) => one.points.length), points = all.flatMap((one) => one.points);
    return { ...base(), legend: legend(all.map((one) => one.name)),
      grid: { left: 26, right: 16, top: 40, bottom: 28, containLabel: true },
      xAxis: axis(data.axes[0], points.map((point) => point[0]), { nameGap: 28 }),
      yAxis: axis(data.axes[1], points.map((point) => point[1]), { nameGap: 44 }),
      series: all.map((one, i) => ({ name: one.name, type: "line", step: data.step, data: one.points, symbol: "circle",
        symbolSize: 8, lineStyle: { color: LINES[i % LINES.length], width: 1 }, itemStyle: { color: LINES[i % LINES.length] } })),
      tooltip: tooltip((one) => tip(`${one.seriesName}, trial ${one.value[2]}`, [`${data.axes[1]}: ${shown(one.value[1])}`,
        `${data.axes[0]}: ${shown(one.value[0])}`])), color: LINES, textStyle: { color: ink } };
  }

  const heights = {
    fronts: () => (narrow() ? 340 : 440),
    front: () => (narrow() ? 340 : 440), progress: () => 300, parallel: () => 360,
    importance: () => 80 + important().length * 26, genes: () => 60 + data.genes.length * 18,
    energy: () => 80 + new Set(data.layers.flatMap((one) => Object.keys(one.bills))).size * (8 + 8 * data.layers.length),
  };
  const options = { front, fronts, importance, genes: along, parallel, progress, energy };
  return { data, byNumber, options, heights, shown, genes };
})();
