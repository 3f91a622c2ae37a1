// What each client for Node plays against the gateway, and how it reports what it saw.
//
//     ask_CLIENT.mjs GATEWAY NAME API
//
// play.py, for Python, says what these are. The report is the same.

export const [gateway, name, api] = process.argv.slice(2);

const described = (error) => ({
  class: error?.constructor?.name ?? typeof error,
  message: String(error?.message ?? error).replace(/\s+/g, " ").slice(0, 300),
});

// `ask(key, {retries, stream, maxTokens})` resolves to the text, the input and the output tokens of an answer as the
// client reports them. `isRefusal(error)` says whether an error is what the client's users look for after a 429.
export async function play(ask, isRefusal) {
  async function seen(limit, { retries = 0, stream = false, maxTokens = 60 } = {}) {
    const began = performance.now();
    let outcome;
    try {
      const [text, ...usage] = await ask(`${limit}-${name}`, { retries, stream, maxTokens });
      outcome = { text, usage };
    } catch (error) {
      outcome = { ...described(error), own: isRefusal(error) };
    }
    return { ...outcome, ms: Math.round(performance.now() - began) };
  }

  const report = {
    answer: await seen("plain"),
    stream: await seen("plain", { stream: true }),
    first: await seen("refused"),
    refused: await seen("refused"),
    refused_stream: await seen("refused", { stream: true }),
    before: await seen("soon"),
    waited: await seen("soon", { retries: 3 }),
    too_large: await seen("small", { retries: 2, maxTokens: 1000 }),
  };
  console.log(JSON.stringify(report));
}
