/** Ways for files to come in: the picker, dropping, pasting. */

const ACCEPT = {
  picture: "image/png,image/jpeg,image/tiff,image/bmp,image/webp,.png,.jpg,.jpeg,.tif,.tiff,.bmp,.webp",
  video: "video/*",
  weights: ".safetensors",
};

export type Kind = keyof typeof ACCEPT;

/** Lets the user pick a file; nothing happens if they do not. */
export function pick(kind: Kind, take: (file: File) => void): void {
  const input = document.createElement("input");
  input.type = "file";
  input.accept = ACCEPT[kind];
  input.addEventListener("change", () => {
    const file = input.files?.[0];
    if (file) take(file);
  });
  input.click();
}

/** What a file is to this page, by name and type; its content is judged when it is read. */
export function kindOf(file: File): Kind {
  if (/\.(safetensors|pth|pt|ckpt|h5|onnx)$/i.test(file.name)) return "weights";
  // Some systems know no type for some containers.
  return file.type.startsWith("video/") || /\.(mp4|m4v|mov|webm|mkv|avi|ogv)$/i.test(file.name) ? "video" : "picture";
}

/** Takes files that are dropped on the page or pasted into it; `curtain` shows while one hangs over it. */
export function receive(curtain: HTMLElement, take: (file: File) => void): void {
  const carriesFiles = (event: DragEvent) => event.dataTransfer?.types.includes("Files") ?? false;
  addEventListener("dragover", (event) => {
    if (!carriesFiles(event)) return;
    event.preventDefault();
    curtain.hidden = false;
  });
  addEventListener("dragleave", (event) => {
    if (!event.relatedTarget) curtain.hidden = true;
  });
  addEventListener("drop", (event) => {
    curtain.hidden = true;
    if (!carriesFiles(event)) return;
    event.preventDefault();
    const file = event.dataTransfer?.files[0];
    if (file) take(file);
  });
  addEventListener("paste", (event) => {
    const file = event.clipboardData?.files[0];
    if (!file) return;
    event.preventDefault();
    take(file);
  });
}

/** Hands a file to the browser's downloads. */
export function save(blob: Blob, name: string): void {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  // The download has begun by then.
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

/** A name that tells the result from its original: `scan.jpg` becomes `scan-enhanced-sonolume-s.png`. */
export function resultName(original: string, model: string, strength: number): string {
  const stem = original.replace(/\.[^.]*$/, "") || "picture";
  const share = strength < 1 ? `-${Math.round(strength * 100)}pct` : "";
  return `${stem}-enhanced-${model.replace(/[^\w.+-]+/g, "_")}${share}.png`;
}
