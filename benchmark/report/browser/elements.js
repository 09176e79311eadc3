"use strict";
const SVG = "http://www.w3.org/2000/svg";
const waiting = new Map(); // script name -> functions that want its content
const loaded = new Map();

const byId = (id) => document.getElementById(id);

/* Elements: h("p", {class: "x"}, "text", child). Text is never parsed as HTML. */
function h(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

function s(tag, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") element.addEventListener(name, value);
    else if (value !== null && value !== undefined && value !== false) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return element;
}

/* For screen readers only */
const unseen = (text) => h("span", { class: "quiet" }, text);

function button(label, click, attributes = {}) {
  return h("button", { type: "button", click, ...attributes }, label);
}

/* Data come as scripts, since a page opened from disk may not read files. */
function fetchScript(name, then) {
  if (loaded.has(name)) return then(loaded.get(name));
  waiting.set(name, [...(waiting.get(name) || []), then]);
  if (waiting.get(name).length === 1) document.head.append(h("script", { src: name.split("/").map(encodeURIComponent).join("/") }));
}

function arrive(name, content) {
  loaded.set(name, content);
  (waiting.get(name) || []).forEach((then) => then(content));
  waiting.delete(name);
}

function detail(name, content) { arrive(`${name}.js`, content); }
function pictures(name, content) { arrive(`images/${name}.js`, content); }
