// What all modules do with the page's elements.

import { CLASSES, CLASS_NAMES } from "./words.js";

/** Return the element of an id. */
export const byId = (id) => document.getElementById(id);

/** Return the element of a test id. */
export const control = (testId) => document.querySelector(`[data-testid="${testId}"]`);

/** Set the text of an element, where it is another one. */
export function setText(id, text) {
  const element = byId(id);
  if (element.textContent !== text) element.textContent = text;
}

/** Make the heads of the lanes, the lanes, and the list of drums, from the templates of the page. */
export function makeLanes() {
  CLASSES.forEach((drumClass, i) => {
    const name = CLASS_NAMES[drumClass];
    const head = made("lane-head", drumClass);
    head.querySelector(".lane-name").textContent = name.charAt(0).toUpperCase() + name.slice(1);
    head.querySelector("kbd").textContent = i + 1;
    const sensitivity = head.querySelector(".sensitivity");
    Object.assign(sensitivity.dataset, { class: drumClass, testid: `sensitivity-${drumClass}` });
    sensitivity.setAttribute("aria-label", `Sensitivity of ${name} detection`);
    sensitivity.title = `Sensitivity: to the left fewer ${name} strokes are detected, to the right more`;
    for (const [part, label] of [["mute", "Mute"], ["solo", "Solo"], ["gain", "Gain of"]]) {
      head.querySelector(`.${part}`).dataset.testid = `${part}-${drumClass}`;
      head.querySelector(`.${part}`).setAttribute("aria-label", `${label} ${name}`);
    }
    byId("velocity-head").before(head);
    const lane = made("lane", drumClass);
    lane.dataset.testid = `lane-${drumClass}`;
    lane.setAttribute("aria-label", `${name} lane`);
    byId("no-drums").before(lane);
    control("stroke-class").append(new Option(name, drumClass));
  });
}

function made(template, drumClass) {
  const element = byId(`${template}-template`).content.firstElementChild.cloneNode(true);
  element.dataset.class = drumClass;
  return element;
}
