// The peer that a Node programmer would write: `ws`, and a broadcast that sends the same buffer to every client.
import { createServer } from "node:net";
import { createInterface } from "node:readline";
import { WebSocketServer } from "ws";

const [clients, orders] = process.argv.slice(2);
const at = (address) => {
  const split = address.lastIndexOf(":");
  return { host: address.slice(0, split), port: Number(address.slice(split + 1)) };
};

const server = new WebSocketServer({ ...at(clients), backlog: 4096, perMessageDeflate: false });

function broadcast(length) {
  const text = Buffer.from(`"${"x".repeat(length - 2)}"`);
  for (const client of server.clients) client.send(text, { binary: false });
}

// One length of data per line; the process ends with the one who gives them.
createServer((chief) => {
  createInterface({ input: chief }).on("line", (line) => broadcast(Number(line)));
  chief.on("close", () => process.exit(0));
}).listen(at(orders));
