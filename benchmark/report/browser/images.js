/* Images that one record gets right and another wrong */
function offerImages() {
  if (!all.pictured.length) return;
  byId("images").hidden = false;
  options(byId("v-dataset"), all.pictured.map((name) => [name, name]));
  byId("v-dataset").addEventListener("change", () => fetchScript(`images/${byId("v-dataset").value}.js`, offerRivals));
  for (const id of ["v-right", "v-wrong"]) byId(id).addEventListener("change", drawGallery);
  fetchScript(`images/${byId("v-dataset").value}.js`, offerRivals);
}

function offerRivals(content) {
  const names = content.said.map(([variant, shots, seed], at) => [String(at), `${all.variants[variant].name}, ${shots}-shot${shots ? `, seed ${seed}` : ""}`]);
  options(byId("v-right"), names, String(names.length - 1));
  options(byId("v-wrong"), names, "0");
  drawGallery();
}

function drawGallery() {
  fetchScript(`images/${byId("v-dataset").value}.js`, (content) => {
    const right = content.said[Number(byId("v-right").value)][3], wrong = content.said[Number(byId("v-wrong").value)][3];
    const found = content.images.map(([index, truth], at) => ({ index, truth, wrong: wrong[at], right: right[at] })).filter((one) => one.right === one.truth && one.wrong !== one.truth);
    byId("v-status").textContent = `${found.length} of the ${content.images.length} most disputed test images`;
    byId("gallery").replaceChildren(...found.map((one) => galleryItem(one)));
  });
}

function galleryItem(one) {
  const dataset = byId("v-dataset").value;
  const names = all.classes[dataset];
  const text = [h("b", {}, names[one.truth]), h("br"), `wrong: ${names[one.wrong]}`];
  return h("li", {}, h("img", { src: `images/${encodeURIComponent(dataset)}/${one.index}.png`, alt: `test image ${one.index}`, loading: "lazy" }), text);
}
