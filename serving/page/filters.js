/** Filters by attributes: a choice where there are few values, a text field with suggestions where there are many. */

import { make } from '/dom.js';

const MOST_CHOICES = 200;
const ALWAYS_SHOWN = 6;

/** The filters' fields, and a chip for each that is set. */
export class Filters {
  /**
   * @param {HTMLFormElement} form
   * @param {HTMLElement} chips
   * @param {(where: Map<string, string>) => void} onChange
   */
  constructor(form, chips, onChange) {
    Object.assign(this, { form, chips, onChange, where: new Map(), fields: new Map() });
    form.addEventListener('submit', (event) => event.preventDefault());
  }

  /**
   * Draws a field for each attribute.
   *
   * @param {{name: string, distinct: number, values: {value: string, rows: number}[]}[]} attributes
   * @param {number} rows how many the index has
   */
  describe(attributes, rows) {
    this.fields = new Map(attributes.map((attribute) => [attribute.name, this.#field(attribute, rows)]));
    const labels = [...this.fields].map(([name, field]) => make('label', {}, make('span', {}, name), field));
    const lists = attributes.map(({ values }, i) =>
      make('datalist', { id: `values-${i}` }, ...values.map(({ value }) => make('option', { value }))));
    [...this.fields.values()].forEach((field, i) => {
      if (field.tagName === 'INPUT') {
        field.setAttribute('list', lists[i].id);
        field.after(lists[i]);
      }
    });
    const more = labels.splice(ALWAYS_SHOWN);
    this.form.replaceChildren(...labels);
    if (more.length) this.form.append(make('details', {}, make('summary', {}, `${more.length} more`), ...more));
    this.show(this.where);
  }

  /** Shows what is filtered by. @param {Map<string, string>} where */
  show(where) {
    this.where = where;
    for (const [name, field] of this.fields) {
      const value = where.get(name) ?? '';
      if (field.tagName === 'SELECT' && ![...field.options].some((option) => option.value === value)) {
        field.add(make('option', { value }, value)); // from a link that an older version wrote
      }
      field.value = value;
    }
    this.chips.replaceChildren(...[...where].map(([name, value]) => make('li', {}, this.#chip(name, value))));
  }

  #field({ name, distinct, values }, rows) {
    const change = (event) => this.#change(name, event.target.value);
    if (distinct > MOST_CHOICES || distinct * 2 >= rows) {
      return make('input', { type: 'search', ariaLabel: name, autocomplete: 'off', placeholder: 'Any', onchange: change });
    }
    const sorted = values.toSorted((a, b) => a.value.localeCompare(b.value, undefined, { numeric: true }));
    const options = sorted.map(({ value, rows: count }) => make('option', { value }, `${value} (${count.toLocaleString()})`));
    return make('select', { ariaLabel: name, onchange: change }, make('option', { value: '' }, 'Any'), ...options);
  }

  #chip(name, value) {
    const label = `Remove the filter ${name}: ${value}`;
    const remove = () => this.#change(name, '');
    return make('button', { ariaLabel: label, onclick: remove }, `${name}: `, make('b', {}, value), make('i', {}, '×'));
  }

  #change(name, value) {
    const where = new Map(this.where);
    if (value) where.set(name, value);
    else where.delete(name);
    this.onChange(where);
  }
}
