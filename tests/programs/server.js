// A timer and an HTTP server: POST /add/N adds N to the sum, GET / tells all. server.js PORT
const http = require("http");

let ticks = 0, sum = 0, requests = 0;
const entries = new Map();
setInterval(() => ticks++, 3);

http.createServer((request, response) => {
    const add = request.url.match(/^\/add\/(\d+)$/);
    if (add) {
        const n = Number(add[1]);
        sum += n;
        requests++;
        entries.set(n, `entry ${n} ${"x".repeat(100)}`);
    }
    let right = 0;
    for (const [n, text] of entries) if (text === `entry ${n} ${"x".repeat(100)}`) right++;
    response.setHeader("Connection", "close");
    response.end(JSON.stringify({ ticks, sum, requests, entries: entries.size, right }));
}).listen(Number(process.argv[2]), "127.0.0.1");
