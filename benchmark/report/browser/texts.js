const percent = (x, digits = 1) => (100 * x).toFixed(digits);
const whole = (x) => String(Math.round(x));
const counts = (text) => Array.from(text, (c) => (typeof c === "number" ? c : c.charCodeAt(0) - 35));
const total = (numbers) => numbers.reduce((a, b) => a + b, 0);
const plural = (count, noun) => `${count} ${noun}${count === 1 ? "" : "s"}`;

function seconds(x) {
  return x < 10 ? x.toFixed(2) : x < 1000 ? x.toFixed(0) : `${(x / 3600).toFixed(1)} h`;
}

function many(x) {
  return x >= 1e6 ? `${(x / 1e6).toFixed(1)} M` : x >= 1e4 ? `${(x / 1e3).toFixed(0)} k` : String(x);
}
