// A cluster of two workers behind one port: cluster.js PORT. Each worker counts its requests for /add; any other path only asks.
const cluster = require('cluster');
const http = require('http');

if (cluster.isPrimary) {
  for (let i = 0; i < 2; i++) cluster.fork();
  cluster.on('exit', (worker, code, signal) => {
    console.error(`worker ${worker.process.pid} ended: ${code} ${signal}`);
    process.exit(1);
  });
} else {
  const entries = new Map();
  let sum = 0;
  http.createServer((request, response) => {
    if (request.url === '/add') {
      const number = entries.size + 1;
      entries.set(number, String(number).repeat(100));
      sum += number;
    }
    response.end(JSON.stringify({ worker: process.pid, requests: entries.size, sum }));
  }).listen(Number(process.argv[2]), '127.0.0.1');
}
