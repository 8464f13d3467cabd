/** The bar with progress, time and the stop button. */

function element<T extends HTMLElement>(id: string): T {
  return document.getElementById(id) as T;
}

/** Hides a bar; the focus, if it was in there, goes to the picture, or to where one is opened. */
export function conceal(bar: HTMLElement): void {
  const focused = bar.contains(document.activeElement);
  bar.hidden = true;
  const view = element("view");
  if (focused) (view.hidden ? element("open") : view).focus();
}

export class Work {
  readonly #bar = element("work");
  readonly #progress = element<HTMLProgressElement>("progress");
  readonly #time = element("work-time");
  #abort: AbortController | undefined;

  constructor() {
    element("stop").addEventListener("click", () => this.stop());
  }

  /** Stops what runs, as the user wishes. */
  stop(): void {
    this.#abort?.abort(new DOMException("stopped", "AbortError"));
  }

  /** Runs `work`, which supersedes what ran before, under the bar. */
  async run<T>(text: string, work: (signal: AbortSignal, onProgress: (share: number) => void) => Promise<T>): Promise<T> {
    this.stop();
    const abort = new AbortController();
    this.#abort = abort;
    const started = performance.now();
    let share = 0;
    element("work-text").textContent = text;
    this.#progress.removeAttribute("value");
    const tick = () => {
      const seconds = (performance.now() - started) / 1000;
      const left = share > 0 && share < 1 ? `, ${duration(seconds / share - seconds)} left` : "";
      this.#time.textContent = `${duration(seconds)}${left}`;
    };
    tick();
    // Short work needs no bar.
    const appear = setTimeout(() => (this.#bar.hidden = false), 150);
    const clock = setInterval(tick, 500);
    try {
      return await work(abort.signal, (now) => {
        share = now;
        this.#progress.value = now;
        tick();
      });
    } finally {
      clearTimeout(appear);
      clearInterval(clock);
      if (this.#abort === abort) {
        this.#abort = undefined;
        conceal(this.#bar);
      }
    }
  }
}

function duration(seconds: number): string {
  if (seconds < 60) return `${seconds.toFixed(0)} s`;
  return `${Math.floor(seconds / 60)} min ${Math.round(seconds % 60)} s`;
}
