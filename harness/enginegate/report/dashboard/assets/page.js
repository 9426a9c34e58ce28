"use strict";
// What the pages do in a browser: colours, filters, sorting, charts. All of it is of this file and the page's own data.
const page = (() => {
  const root = document.documentElement;
  const all = (selector, within = document) => [...within.querySelectorAll(selector)];
  const make = (name, properties = {}, ...children) => {
    const element = Object.assign(document.createElement(name), properties);
    element.append(...children);
    return element;
  };
  const data = (id) => JSON.parse(document.getElementById(id)?.textContent || "null");

  // Colours: what was chosen is kept, as far as the browser lets a file keep anything.
  const keep = (value) => {
    try {
      return value === undefined ? localStorage.getItem("enginegate-colours") : localStorage.setItem("enginegate-colours", value);
    } catch {
      return null;
    }
  };
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const setColours = (chosen) => {
    root.style.colorScheme = chosen === "light" || chosen === "dark" ? chosen : "light dark";
  };

  // A colour of the style sheet as it is now, in light or dark.
  const colours = new Map();
  const colour = (name) => {
    if (!colours.has(name)) {
      const probe = make("i", { hidden: true });
      probe.style.color = `var(--${name})`;
      document.body.append(probe);
      colours.set(name, getComputedStyle(probe).color);
      probe.remove();
    }
    return colours.get(name);
  };
  const coloured = (spec) =>
    JSON.parse(JSON.stringify(spec).replace(/"\$([a-z0-9-]+)"/g, (_, name) => JSON.stringify(name === "schema" ? "$schema" : colour(name))));
  const config = () => ({
    background: null,
    font: "system-ui, sans-serif",
    view: { stroke: null },
    axis: {
      labelColor: colour("soft"), titleColor: colour("soft"), gridColor: colour("grid"), domainColor: colour("line"),
      tickColor: colour("line"), labelFontSize: 12, titleFontSize: 12, titleFontWeight: 500, titlePadding: 10,
    },
    legend: { labelColor: colour("ink"), titleColor: colour("soft"), labelFontSize: 12, titleFontSize: 12, titleFontWeight: 500, orient: "top" },
    text: { color: colour("ink") },
  });

  // Filters: which lines of tables and values of charts are shown.
  const wanted = {};
  let words = "";
  const fits = (facets) => Object.entries(wanted).every(([name, value]) => !value || facets[name] === undefined || facets[name] === value);
  const listeners = [];
  const apply = () => {
    let shown = 0;
    let of = 0;
    for (const line of all("tbody tr")) {
      const keys = Object.keys(line.dataset).filter((name) => name !== "key");
      if (!keys.length) continue;
      const fit = fits(line.dataset) && (!words || line.textContent.toLowerCase().includes(words));
      line.hidden = !fit;
      of += 1;
      shown += fit;
    }
    const told = document.getElementById("shown");
    if (told) told.textContent = of ? `${shown} of ${of} lines shown` : "";
    for (const listener of listeners) listener();
  };

  // Charts.
  const figures = new Map();
  const embed = (target, spec, values) => {
    const height = spec.height?.step ? spec.height.step * new Set(values.map((value) => value.row)).size : spec.height;
    return vegaEmbed(target, { ...coloured(spec), height, datasets: { values } }, {
      actions: false, ast: true, renderer: "svg", config: config(), tooltip: { theme: "custom" },
    });
  };
  const drawn = new Set();
  const draw = async (key) => {
    const { figure, place, menus } = figures.get(key);
    const choice = figure.choices[menus.choice ? Number(menus.choice.value) : 0];
    let values = choice.values.filter(fits);
    for (const [field, menu] of Object.entries(menus.fields)) {
      const options = [...new Set(values.map((value) => value[field]))];
      const before = menu.value;
      menu.replaceChildren(...options.map((option) => make("option", { value: option, textContent: option })));
      if (options.includes(before)) menu.value = before;
      menu.parentElement.hidden = options.length < 2;
      values = values.filter((value) => value[field] === menu.value);
    }
    if (!values.length) {
      place.replaceChildren(make("p", { className: "empty", textContent: "The filters leave nothing to draw." }));
      return;
    }
    await embed(place, choice.spec, values);
    place.dataset.drawn = "yes";
  };
  const near = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      const key = entry.target.dataset.chart;
      if (entry.isIntersecting && !drawn.has(key)) {
        drawn.add(key);
        draw(key);
      }
    }
  }, { rootMargin: "800px" });
  const redraw = () => drawn.forEach((key) => draw(key));

  let made = 0;
  const menu = (name, options, changed) => {
    const select = make("select", {}, ...options.map(([value, label]) => make("option", { value, textContent: label })));
    select.id = `menu-${(made += 1)}`;
    select.addEventListener("change", changed);
    return [select, make("div", { className: "field" }, make("label", { htmlFor: select.id, textContent: name }), select)];
  };
  const place = (figure) => {
    const element = document.getElementById(`figure-${figure.key}`);
    const choices = element.querySelector(".choices");
    const menus = { choice: null, fields: {} };
    const again = () => draw(figure.key);
    for (const [field, name] of Object.entries(figure.selects)) {
      const [select, label] = menu(name, [], again);
      menus.fields[field] = select;
      choices.append(label);
    }
    if (figure.choices.length > 1) {
      const [select, label] = menu(figure.menu, figure.choices.map((choice, index) => [index, choice.label]), again);
      menus.choice = select;
      choices.append(label);
    }
    const target = element.querySelector(".chart");
    figures.set(figure.key, { figure, place: target, menus });
    near.observe(target);
  };

  // Tables: a click on a heading sorts, numbers by their size.
  const value = (row, column) => {
    const cell = row.cells[column];
    const written = cell.dataset.sort ?? cell.textContent.trim();
    const number = Number.parseFloat(written.replace(/[\s\u202f,]/g, "").replace("\u2212", "-"));
    return cell.classList.contains("number") ? (Number.isNaN(number) ? null : number) : written;
  };
  const sortable = (table) => {
    for (const [column, head] of [...table.tHead.rows[0].cells].entries()) {
      const button = make("button", { type: "button" }, ...head.childNodes);
      head.replaceChildren(button);
      button.addEventListener("click", () => {
        const up = head.getAttribute("aria-sort") !== "ascending";
        for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
        head.setAttribute("aria-sort", up ? "ascending" : "descending");
        const body = table.tBodies[0];
        const keyed = [...body.rows].map((row) => [value(row, column), row]);
        keyed.sort(([a], [b]) => {
          if (a === null || b === null) return (a === null) - (b === null);
          const order = typeof a === "number" ? a - b : a.localeCompare(b, "en", { numeric: true });
          return up ? order : -order;
        });
        body.append(...keyed.map(([, row]) => row));
      });
    }
  };

  const start = () => {
    const chosen = keep() || "system";
    setColours(chosen);
    for (const radio of all("#colours input")) {
      radio.checked = radio.value === chosen;
      radio.addEventListener("change", () => {
        keep(radio.value);
        setColours(radio.value);
        recolour();
      });
    }
    dark.addEventListener("change", recolour);
    all("table.sortable").forEach(sortable);
    for (const figure of data("figures") || []) place(figure);
    const form = document.querySelector("form.filters");
    if (form) {
      for (const select of all("select[data-facet]", form)) {
        select.addEventListener("change", () => {
          wanted[select.dataset.facet] = select.value;
          apply();
        });
      }
      let waiting = 0;
      form.querySelector("[data-words]").addEventListener("input", (event) => {
        words = event.target.value.trim().toLowerCase();
        clearTimeout(waiting);
        waiting = setTimeout(apply, 120);
      });
      form.addEventListener("submit", (event) => event.preventDefault());
      form.addEventListener("reset", () => {
        for (const name of Object.keys(wanted)) delete wanted[name];
        words = "";
        apply();
      });
    }
    listeners.push(redraw);
    apply();
    root.dataset.ready = "yes";
  };
  const recolour = () => {
    colours.clear();
    redraw();
    for (const listener of recolouring) listener();
  };
  const recolouring = [];
  return { all, make, data, embed, colour, fits, listeners, recolouring, menu, sortable, start };
})();
page.start();
