/** The generators to choose from: the built-in one, those beside the page, and files that the user opened. */

export const BUILT_IN = "sonolume-s";

export class Models {
  readonly #select: HTMLSelectElement;
  readonly #files = new Map<string, File>();

  constructor(select: HTMLSelectElement) {
    this.#select = select;
    this.#add(BUILT_IN, `${BUILT_IN}, built in`);
  }

  /** Adds what was built with the page. */
  async find(): Promise<void> {
    const names: string[] = await fetch("models.json").then((reply) => (reply.ok ? reply.json() : []));
    for (const name of names) this.#add(`models/${name}`, name.replace(/\.safetensors$/, ""));
  }

  /** Adds a file that has proved to be a generator. */
  keep(file: File): void {
    const value = `file/${file.name}`;
    if (!this.#files.has(value)) this.#add(value, file.name);
    this.#files.set(value, file);
    this.#select.value = value;
  }

  /** Selects a choice that was there before. */
  show(value: string): void {
    this.#select.value = value;
  }

  /** The weights behind a choice; none for the built-in generator. */
  async weights(value: string): Promise<{ name: string; weights?: Blob }> {
    if (value === BUILT_IN) return { name: BUILT_IN };
    const file = this.#files.get(value);
    if (file) return { name: stem(file.name), weights: file };
    const reply = await fetch(value);
    if (!reply.ok) throw new Error(`${value} cannot be fetched (${reply.status}).`);
    return { name: stem(value), weights: await reply.blob() };
  }

  #add(value: string, text: string): void {
    this.#select.add(new Option(text, value));
  }
}

export function stem(name: string): string {
  return name.replace(/^.*\//, "").replace(/\.[^.]*$/, "");
}
