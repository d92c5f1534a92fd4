/** Elements. Text in them stays text, so that no catalog value is ever parsed as HTML. */

export const byId = (id) => document.getElementById(id);

/** Makes an element. @param {string} tag @param {object} properties @param {...(Node|string)} children */
export function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

/** A copy of what a <template> holds. @returns {HTMLElement} */
export const template = (id) => byId(id).content.firstElementChild.cloneNode(true);
