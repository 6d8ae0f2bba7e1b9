// Ask again and again, one request at a time, while somebody looks.

/** Return what calls `act` every `ms` while it is started and the page is visible. */
export function poller(act, ms) {
  let timer;
  let isActive = false;
  let isBusy = false;
  let isWanted = false; // once more, at once

  async function now() {
    clearTimeout(timer);
    isWanted = isBusy;
    if (isBusy || !isActive || document.hidden) return;
    isBusy = true;
    const goesOn = await act();
    isBusy = false;
    if (isWanted) now();
    else if (isActive && goesOn !== false) timer = setTimeout(now, ms);
  }

  document.addEventListener("visibilitychange", now);
  return {
    now,
    start() {
      isActive = true;
      now();
    },
    stop() {
      isActive = false;
      clearTimeout(timer);
    },
  };
}
