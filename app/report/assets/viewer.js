"use strict";
// The viewer, in pages that hold one; goes on from report.js.

/* Viewer: three planes on one canvas, the organs' surfaces on another */

const planes = byId("planes");
const organs = byId("organs");
const shown = new Set(report.organs.map((organ) => organ.value));
let current = null; // index of the case on screen
let slices = null; // NiiVue of the three planes
let surfaces = null; // NiiVue of the organs
let everyOrgan = null; // labels of the case on screen, those of hidden organs included
let opening = Promise.resolve();

const NIFTI_INTENT_LABEL = 1002;

const grayOf = (hu) =>
  (255 * (hu - report.window[0])) / (report.window[1] - report.window[0]);
const huOf = (gray) =>
  report.window[0] + (gray / 255) * (report.window[1] - report.window[0]);

function say(message) {
  byId("message").textContent = message;
  byId("message").hidden = !message;
}

function hasWebGL2() {
  return Boolean(document.createElement("canvas").getContext("webgl2"));
}

async function makeViewers() {
  const common = {
    backColor: [0, 0, 0, 1],
    dragAndDropEnabled: false,
    loadingText: "",
    logLevel: "error",
  };
  slices = new niivue.Niivue({
    ...common,
    crosshairColor: [0.4, 0.85, 1, 0.6],
    crosshairWidth: 1,
    crosshairWidthUnit: "mm",
    crosshairGap: 14,
    fontColor: [0.75, 0.8, 0.86, 1],
    isRadiologicalConvention: true, // the patient's right on the left
    multiplanarLayout: niivue.MULTIPLANAR_TYPE.GRID,
    multiplanarShowRender: niivue.SHOW_RENDER.NEVER, // its place is the other canvas's
    multiplanarPadPixels: 4,
    sagittalNoseLeft: true,
    showAllOrientationMarkers: true,
    dragMode: niivue.DRAG_MODE.contrast,
    invertScrollDirection: true, // down the wheel is toward the feet, as down the arrow keys
    onLocationChange: showLocation,
  });
  await slices.attachToCanvas(planes);
  surfaces = new niivue.Niivue({ ...common, show3Dcrosshair: false, crosshairWidth: 0 });
  await surfaces.attachToCanvas(organs);
  surfaces.setSliceType(niivue.SLICE_TYPE.RENDER);
  await surfaces.setVolumeRenderIllumination(0.6);
  new ResizeObserver(() => requestAnimationFrame(placeSurfaces)).observe(planes);
}

/** Lay the organs' canvas over the quarter that three planes leave free, else into a corner. */
function placeSurfaces() {
  const all = slices.opts.sliceType === niivue.SLICE_TYPE.MULTIPLANAR;
  const share = planes.clientWidth / planes.width; // CSS pixels for each of the canvas's own
  const tile = (axis) =>
    slices.screenSlices.find(({ axCorSag }) => axCorSag === axis)?.leftTopWidthHeight;
  const [axial, sagittal] = [tile(niivue.SLICE_TYPE.AXIAL), tile(niivue.SLICE_TYPE.SAGITTAL)];
  let place = ["68%", "66%", "32%", "34%"];
  if (all && axial && sagittal) {
    place = [sagittal[0], axial[1], sagittal[2], axial[3]].map((size) => `${size * share}px`);
  }
  const style = byId("surfaces").style;
  [style.left, style.top, style.width, style.height] = place;
  surfaces.resizeListener();
}

function organColors() {
  const table = { R: [0], G: [0], B: [0], A: [0], I: [0], labels: ["no organ"] };
  for (const { value, name, color } of report.organs) {
    table.R.push(color[0]);
    table.G.push(color[1]);
    table.B.push(color[2]);
    table.A.push(shown.has(value) ? 255 : 0);
    table.I.push(value);
    table.labels.push(name);
  }
  return table;
}

const volumeOf = (id, name) =>
  niivue.NVImage.loadFromBase64({ base64: byId(id).textContent.trim(), name });

async function showCase(index) {
  const { name, viewable, center } = report.cases[index];
  current = index;
  byId("case-name").textContent = name;
  for (const one of cases) {
    const chosen = Number(one.dataset.case) === index;
    one.classList.toggle("chosen", chosen);
    one.querySelector(".name")?.setAttribute("aria-current", String(chosen));
  }
  listOrgans();
  if (!viewable) {
    clearViewers();
    say("This page holds no scan data of this case; see the table.");
    return;
  }
  if (!hasWebGL2()) {
    say("This browser offers no WebGL 2, which the viewer draws with. The pictures are below.");
    return;
  }
  say("Opening …");
  if (slices === null) await makeViewers();
  clearViewers();
  const gray = await volumeOf(`scan-${index}`, "scan.nii.gz");
  [gray.cal_min, gray.cal_max] = windowGray();
  const labels = await volumeOf(`labels-${index}`, "labels.nii.gz");
  const solid = labels.clone();
  everyOrgan = labels.img;
  slices.addVolume(gray);
  slices.addVolume(labels);
  surfaces.addVolume(solid);
  paintOrgans();
  slices.scene.crosshairPos = center; // the middle of what was found
  slices.createOnLocationChange();
  surfaces.setRenderAzimuthElevation(180, 8); // from the front, the head up
  surfaces.setScale(1.1);
  placeSurfaces();
  applyOpacity();
  say("");
  planes.dataset.case = name; // tells tests and scripts that the case is on screen
}

function clearViewers() {
  delete planes.dataset.case;
  for (const viewer of [slices, surfaces]) {
    while (viewer?.volumes.length) viewer.removeVolume(viewer.volumes[0]);
  }
}

function open(index) {
  opening = opening
    .then(() => showCase(index))
    .catch((error) => say(`The viewer failed: ${error.message}`));
  return opening;
}

function paintOrgans() {
  for (const viewer of [slices, surfaces]) {
    const labels = viewer?.volumes.at(-1);
    if (!labels) continue;
    labels.setColormapLabel(organColors());
    if (viewer === slices) outlineOrgans(labels);
    viewer.updateGLVolume();
  }
}

/** Choose between surface and outline; NiiVue outlines hidden organs as well, so take them out. */
function outlineOrgans(labels) {
  const outlined = byId("outline").checked;
  labels.hdr.intent_code = outlined ? NIFTI_INTENT_LABEL : 0; // it outlines nothing else
  labels.img = outlined ? everyOrgan.map((value) => (shown.has(value) ? value : 0)) : everyOrgan;
}

function showLocation(location) {
  const [, across, back, up] = slices.volumes[0]?.dimsRAS ?? [];
  const [x, y, z] = location.vox;
  const gray = location.values[0]?.value;
  const organ = report.organs.find(({ value }) => value === location.values[1]?.value);
  const beyond = gray <= 0 ? "≤ " : gray >= 255 ? "≥ " : "";
  // NiiVue counts from left, back and feet; pictures and label maps from right, front and feet.
  byId("place").textContent =
    `axial ${z + 1}/${up} · coronal ${back - y}/${back} · sagittal ${across - x}/${across}`;
  byId("value").textContent = gray === undefined ? "" : `${beyond}${Math.round(huOf(gray))} HU`;
  byId("organ-here").textContent = organ ? organ.name : "no organ";
}

/* Controls */

const windowGray = () => byId("window").value.split(" ").map(Number).map(grayOf);

function applyOpacity() {
  const percent = Number(byId("opacity").value);
  byId("opacity-value").textContent = `${percent} %`;
  if (!(slices?.volumes.length > 1)) return;
  const outlined = byId("outline").checked;
  slices.opts.atlasOutline = outlined ? percent / 100 : 0;
  slices.setOpacity(1, outlined ? 0 : percent / 100);
}

byId("opacity").addEventListener("input", applyOpacity);
byId("window").addEventListener("change", () => {
  if (!slices?.volumes.length) return;
  [slices.volumes[0].cal_min, slices.volumes[0].cal_max] = windowGray();
  slices.updateGLVolume();
});
byId("planes-shown").addEventListener("change", (event) => {
  if (!slices) return;
  slices.setSliceType(niivue.SLICE_TYPE[event.target.value]);
  placeSurfaces();
});
byId("outline").addEventListener("change", () => {
  const labels = slices?.volumes.at(-1);
  if (!labels) return;
  outlineOrgans(labels);
  applyOpacity(); // which hands all to the graphics card, once
});

function setShown(values) {
  shown.clear();
  for (const value of values) shown.add(value);
  for (const box of byId("organ-list").querySelectorAll("input")) {
    box.checked = shown.has(Number(box.value));
  }
  paintOrgans();
}

function listOrgans() {
  const volumes = report.cases[current].volumes;
  for (const line of byId("organ-list").querySelectorAll(".organ")) {
    const ml = volumes[line.dataset.organ];
    line.classList.toggle("absent", !ml);
    line.querySelector(".ml").textContent = ml ? `${ml < 10 ? ml.toFixed(1) : ml.toFixed(0)} ml` : "–";
  }
}

byId("organ-list").addEventListener("change", (event) => {
  const value = Number(event.target.value);
  setShown(event.target.checked ? [...shown, value] : [...shown].filter((one) => one !== value));
});
byId("organ-list").addEventListener("click", (event) => {
  if (event.target.dataset.only) setShown([Number(event.target.dataset.only)]);
});
byId("all-organs").addEventListener("click", () => setShown(report.organs.map((o) => o.value)));
byId("no-organs").addEventListener("click", () => setShown([]));

const STEPS = {
  ArrowUp: [0, 0, 1],
  ArrowDown: [0, 0, -1],
  ArrowLeft: [1, 0, 0], // to the patient's right, which is on the left
  ArrowRight: [-1, 0, 0],
  PageUp: [0, 1, 0],
  PageDown: [0, -1, 0],
};

// Before NiiVue's own listener, whose letters would do things that nobody here is told of.
planes.addEventListener(
  "keydown",
  (event) => {
    if (event.key === "Tab" || event.ctrlKey || event.metaKey || event.altKey) return;
    event.stopImmediatePropagation();
    const step = STEPS[event.key];
    if (!step || !slices?.volumes.length) return;
    event.preventDefault();
    const times = event.shiftKey ? 5 : 1;
    slices.moveCrosshairInVox(...step.map((voxels) => voxels * times));
  },
  { capture: true },
);

const TURNS = { ArrowUp: [0, 10], ArrowDown: [0, -10], ArrowLeft: [15, 0], ArrowRight: [-15, 0] };

organs.addEventListener(
  "keydown",
  (event) => {
    if (event.key === "Tab" || event.ctrlKey || event.metaKey || event.altKey) return;
    event.stopImmediatePropagation();
    const turn = TURNS[event.key];
    if (!turn || !surfaces?.volumes.length) return;
    event.preventDefault();
    const { renderAzimuth, renderElevation } = surfaces.scene;
    const elevation = Math.max(-90, Math.min(90, renderElevation + turn[1]));
    surfaces.setRenderAzimuthElevation(renderAzimuth + turn[0], elevation);
  },
  { capture: true },
);

function neighbor(step) {
  const order = cases.filter((one) => !one.hidden).map((one) => Number(one.dataset.case));
  if (!order.length) return;
  open(order[(order.indexOf(current) + step + order.length) % order.length]);
}

byId("neighbors").hidden = report.cases.length < 2;
byId("previous").addEventListener("click", () => neighbor(-1));
byId("next").addEventListener("click", () => neighbor(1));
document.addEventListener("click", (event) => {
  const index = event.target.closest("[data-open]")?.dataset.open;
  if (index === undefined) return;
  event.preventDefault();
  open(Number(index));
  byId("viewer").scrollIntoView({ block: "nearest" });
});

const first = report.cases.findIndex((one) => one.viewable);
if (first >= 0) open(first);
