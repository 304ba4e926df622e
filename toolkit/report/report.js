// The step slider of the samples, and the figures under the pointer of a chart.
const slider = document.getElementById("step");
if (slider) {
  const steps = slider.dataset.steps.split(" ");
  const figures = [...document.querySelectorAll(".prompts figure")];
  const show = () => {
    const step = Number(steps[slider.value]);
    document.getElementById("shown").textContent = step;
    slider.setAttribute("aria-valuetext", `step ${step}`);
    for (const figure of figures) {
      const pictures = [...figure.querySelectorAll("img")];
      // A prompt without a picture at this step shows the last one before it.
      const before = pictures.filter((picture) => Number(picture.dataset.step) <= step);
      const shown = before.at(-1) ?? pictures[0];
      for (const picture of pictures) picture.hidden = picture !== shown;
    }
  };
  slider.addEventListener("input", show);
  document.querySelector("#samples details").addEventListener("toggle", (event) => {
    event.target.querySelectorAll("tbody tr").forEach((row, index) => {
      for (const cell of row.querySelectorAll("td:empty")) {
        const picture = figures[index].querySelector(`img[data-step="${steps[cell.dataset.cell]}"]`);
        if (!picture) continue;
        const copy = picture.cloneNode();
        copy.hidden = false;
        cell.append(copy);
      }
    });
  });
}

for (const chart of document.querySelectorAll(".chart")) {
  const svg = chart.querySelector("svg");
  const cursor = chart.querySelector(".cursor");
  const readout = chart.querySelector(".readout");
  const table = JSON.parse(chart.querySelector("script").textContent);
  svg.addEventListener("pointermove", (event) => {
    const box = svg.getBoundingClientRect();
    const x = ((event.clientX - box.left) / box.width) * svg.viewBox.baseVal.width;
    const share = Math.min(1, Math.max(0, (x - table.left) / (table.right - table.left)));
    const step = table.first + share * (table.last - table.first);
    const texts = table.lines.map((line) => {
      let near = 0;
      line.steps.forEach((other, index) => {
        if (Math.abs(other - step) < Math.abs(line.steps[near] - step)) near = index;
      });
      return { step: line.steps[near], text: (table.lines.length > 1 ? line.name + " " : "") + line.values[near] };
    });
    const span = Math.max(table.last - table.first, 1);
    const place = table.left + ((texts[0].step - table.first) / span) * (table.right - table.left);
    cursor.setAttribute("x1", place);
    cursor.setAttribute("x2", place);
    cursor.removeAttribute("hidden");
    readout.textContent = `step ${texts[0].step}: ${texts.map((it) => it.text).join(", ")}`;
  });
  svg.addEventListener("pointerleave", () => {
    cursor.setAttribute("hidden", "");
    readout.textContent = "";
  });
}
