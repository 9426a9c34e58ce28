"use strict";
// The site of a history: a series is loaded and drawn when it is chosen. Files beside the page call these two functions.
const enginegateHistory = (() => {
  const { make, data, embed, colour } = page;
  const loaded = new Map();
  const waiting = new Map();
  const charts = data("history-charts");
  const body = document.getElementById("detail-body");
  const MOST = 500;
  let runs = null;
  let shown = "";

  const arrive = (name, value) => {
    loaded.set(name, value);
    waiting.get(name)?.resolve(value);
  };
  const load = (name) => {
    if (!waiting.has(name)) {
      const wait = {};
      wait.promise = new Promise((resolve, reject) => Object.assign(wait, { resolve, reject }));
      waiting.set(name, wait);
      const script = make("script", { src: `data/${name}.js` });
      script.addEventListener("error", () => {
        waiting.delete(name);
        wait.reject(new Error(`data/${name}.js cannot be loaded; write the site again`));
      });
      document.head.append(script);
    }
    return waiting.get(name).promise;
  };

  const UNITS = { seconds: [1000, "ms"], bytes: [1 / 2 ** 20, "MiB"] };
  const scale = (unit) => UNITS[unit] || [1, unit === "score" ? "" : unit];
  const text = (value, unit) => {
    if (value === null || value === undefined) return "none";
    const [factor, name] = scale(unit);
    return `${(value * factor).toLocaleString("en", { maximumSignificantDigits: 5 })} ${name}`.trim();
  };
  const times = (value, factor) => (value === null ? null : value * factor);
  const middle = (values) => {
    const sorted = values.filter((value) => value !== null).sort((a, b) => a - b);
    if (!sorted.length) return null;
    const half = sorted.length >> 1;
    return sorted.length % 2 ? sorted[half] : (sorted[half - 1] + sorted[half]) / 2;
  };
  const WORST = ["FAIL", "INCONCLUSIVE", "NO_BASELINE", "PASS", "not gated"];

  // What the chart draws of the points from `first` on: each, or medians of as many as keep it quick.
  const chartValues = (series, unit, first) => {
    const [factor] = scale(unit);
    const count = series.run.length;
    const at = (place) => runs.started[series.run[Math.min(place, count - 1)]];
    const verdict = (place) => series.verdicts[series.verdict[place]] || "not gated";
    const values = [];
    const step = Math.ceil((count - first) / MOST);
    for (let start = first; start < count; start += step) {
      const places = Array.from({ length: Math.min(step, count - start) }, (_, offset) => start + offset);
      const inside = places.map((place) => series.value[place]).filter((value) => value !== null);
      if (!inside.length) continue;
      const value = middle(inside);
      const ends = step > 1 ? [Math.min(...inside), Math.max(...inside)] : [series.low[start], series.high[start]];
      const verdicts = places.map(verdict);
      values.push({
        kind: "point", x: at(places[places.length >> 1]), y: value * factor, low: times(ends[0], factor), high: times(ends[1], factor),
        verdict: WORST.find((each) => verdicts.includes(each)), text: text(value, unit),
        run: step > 1 ? `${places.length}, median` : runs.id[series.run[start]],
      });
      if (step === 1 && ends[0] !== null && ends[1] !== null) values.push({ ...values.at(-1), kind: "interval" });
    }
    for (const level of series.levels) {
      if (level.last < first) continue;
      values.push({ kind: "level", x: at(Math.max(level.first, first)), x2: at(level.last), y: level.value * factor, text: `level ${text(level.value, unit)}` });
    }
    if (series.anchor) {
      values.push({
        kind: "anchor", x: at(Math.max(series.anchor.first, first)), x2: at(count - 1), y: series.anchor.value * factor,
        text: `accepted level ${text(series.anchor.value, unit)}`,
      });
    }
    for (const change of series.changes) {
      if (change.index < first || change.kind === "drift") continue;
      const color = change.word === "worse" ? colour("fail-mark") : change.word === "better" ? colour("pass-mark") : colour("soft");
      values.push({ kind: "change", x: at(change.index), state: change.word, color, label: change.label, text: `${change.word}: ${change.label}` });
    }
    for (const version of series.versions) {
      if (version.index < first) continue;
      values.push({ kind: "version", x: at(version.index), text: version.changed.map(([name, before, after]) => `${name} ${before || "none"} → ${after || "none"}`).join("; ") });
    }
    return [values, step > 1, within(values)];
  };
  // Far-out values (six times the middle half's width beyond it, Tukey 1977) lie on the chart's edge, or they would flatten all
  // others; levels are always inside. How many points do.
  const within = (values) => {
    const sorted = values.filter((value) => value.kind === "point").map((value) => value.y).sort((a, b) => a - b);
    const quarter = (share) => sorted[Math.round(share * (sorted.length - 1))];
    const reach = 6 * (quarter(0.75) - quarter(0.25));
    if (!reach) return 0;
    const levels = values.filter((value) => value.kind === "level" || value.kind === "anchor").map((value) => value.y);
    const [lowest, highest] = [Math.min(quarter(0.25) - reach, ...levels), Math.max(quarter(0.75) + reach, ...levels)];
    let outside = 0;
    for (const value of values) {
      if (value.kind === "point" && (value.y < lowest || value.y > highest)) outside += 1;
      for (const field of ["y", "low", "high"]) {
        if (Number.isFinite(value[field])) value[field] = Math.min(Math.max(value[field], lowest), highest);
      }
    }
    return outside;
  };

  const row = (cells, heading = "td") => make("tr", {}, ...cells.map((cell, index) => make(index ? heading : "th", index || heading === "th" ? (heading === "th" ? { scope: "col" } : {}) : { scope: "row" }, cell ?? "")));
  const grid = (caption, columns, rows) => {
    const table = make("table", {}, make("caption", { textContent: caption }), make("thead", {}, row(columns, "th")), make("tbody", {}, ...rows));
    const box = make("div", { className: "scroll", tabIndex: 0 }, table);
    box.setAttribute("role", "region");
    box.setAttribute("aria-label", caption);
    return box;
  };

  const ALL = ["0", "All runs"];
  const ranges = (count) => {
    const shorter = [500, 100].filter((last) => last < count).map((last) => [String(last), `Last ${last} runs`]);
    return count > MOST ? [...shorter, ALL] : [ALL, ...shorter];
  };
  const draw = async (digest, line, series) => {
    const unit = line.dataset.unit;
    const name = `${line.cells[0].querySelector("a").textContent} ${line.dataset.workload} ${line.dataset.metric}`;
    const count = series.run.length;
    const place = make("div", { className: "chart" });
    const edge = make("p", { className: "soft" });
    const refresh = async () => {
      const last = Number(select.value);
      const [values, binned, outside] = chartValues(series, unit, last ? Math.max(0, count - last) : 0);
      if (!values.length) {
        place.replaceChildren(make("p", { className: "empty", textContent: "No run has a figure here." }));
        return;
      }
      const title = `${line.dataset.metric}${scale(unit)[1] ? ` (${scale(unit)[1]})` : ""}`;
      const spec = JSON.parse(
        JSON.stringify(charts[binned ? "binned" : "full"]).replaceAll('"$title"', JSON.stringify(title))
          .replaceAll('"$description"', JSON.stringify(`${name} over time, ${series.changes.length} changes; the tables below say the same.`)),
      );
      const kinds = new Set(values.map((value) => value.kind));
      edge.textContent = outside ? `${outside} point${outside > 1 ? "s lie" : " lies"} far outside, on the chart's edge; the table has the value.` : "";
      await embed(place, { ...spec, layer: spec.layer.filter((layer) => kinds.has(layer.name.split(" ")[0])) }, values);
      place.dataset.drawn = digest;
    };
    const [select, label] = page.menu("Runs", ranges(count), refresh);
    const changes = [...series.changes].reverse().map((change) => make("article", {},
      make("h3", {}, `${change.alert ? "ALERT: " : ""}${change.word}: ${change.label}`),
      make("pre", { className: "mono", textContent: change.lines.slice(1).join("\n") })));
    const versions = [...series.versions].reverse().slice(0, 60).map((version) => row([
      runs.started[series.run[version.index]].slice(0, 10), runs.id[series.run[version.index]],
      version.changed.map(([what, before, after]) => `${what}: ${before || "none"} → ${after || "none"}`).join("; ")]));
    let told = 30;
    const points = make("div");
    const list = () => {
      const rows = [];
      for (let at = count - 1; at >= Math.max(0, count - told); at -= 1) {
        const run = series.run[at];
        const interval = series.low[at] === null ? "" : `${text(series.low[at], unit)} to ${text(series.high[at], unit)}`;
        rows.push(row([runs.id[run], runs.started[run].slice(0, 16).replace("T", " "), runs.commit[run], text(series.value[at], unit), interval, series.verdicts[series.verdict[at]] || "not gated"]));
      }
      const more = make("button", { type: "button", textContent: "Show 200 more" });
      more.addEventListener("click", () => {
        told += 200;
        list();
      });
      points.replaceChildren(grid(`Points, the newest first: ${Math.min(told, count)} of ${count}`, ["Run", "Started", "Commit", "Value", "Interval", "Verdict"], rows), ...(told < count ? [more] : []));
    };
    list();
    body.replaceChildren(
      make("h3", { textContent: name }),
      make("p", { className: "lead", textContent: `${line.dataset.machine} · series ${digest} · ▲ marks another version` }),
      make("div", { className: "choices" }, label), place, edge, ...changes,
      ...(versions.length ? [grid("Versions that changed", ["When", "Run", "What"], versions)] : []), points,
    );
    await refresh();
  };

  const choose = async () => {
    const digest = (location.hash.match(/^#series=([0-9a-f]{16})$/) || [])[1] || (shown ? "" : document.querySelector("#all-series tbody tr")?.dataset.key);
    if (!digest) return;
    const line = document.querySelector(`#all-series tr[data-key="${digest}"]`);
    if (!line) {
      body.replaceChildren(make("p", { textContent: `There is no series ${digest} in this history.` }));
      return;
    }
    shown = digest;
    for (const other of page.all("tr.chosen")) other.classList.remove("chosen");
    line.classList.add("chosen");
    try {
      const [, series] = await Promise.all([load("runs"), load(digest)]);
      if (shown !== digest) return;
      await draw(digest, line, series);
      if (location.hash) document.getElementById("detail").scrollIntoView();
    } catch (error) {
      body.replaceChildren(make("p", { className: "notice", textContent: error.message }));
    }
    document.documentElement.dataset.shown = digest;
  };
  addEventListener("hashchange", choose);
  page.recolouring.push(() => shown && loaded.has(shown) && draw(shown, document.querySelector(`#all-series tr[data-key="${shown}"]`), loaded.get(shown)));
  return {
    choose,
    runs: (value) => {
      runs = value;
      arrive("runs", value);
    },
    series: arrive,
  };
})();
enginegateHistory.choose();
