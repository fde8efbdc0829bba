// Search runs in a worker, and browsers start none for a page that is opened from disk. There, run it in a hidden frame.
if (location.protocol === "file:") {
  window.Worker = class {
    constructor(url) {
      this.frame = document.createElement("iframe")
      this.frame.hidden = true
      this.ready = new Promise((resolve) => {
        this.frame.addEventListener("load", () => {
          const inside = this.frame.contentWindow
          inside.postMessage = (data) => setTimeout(() => this.onmessage?.({ data: structuredClone(data) }))
          const script = inside.document.createElement("script")
          script.src = url
          script.addEventListener("load", () => resolve(inside))
          script.addEventListener("error", (error) => this.onerror?.(error))
          inside.document.body.append(script)
        })
      })
      document.body.append(this.frame)
    }

    async postMessage(data) {
      const inside = await this.ready
      inside.onmessage({ data: structuredClone(data) })
    }

    terminate() {
      this.frame.remove()
    }
  }
}
