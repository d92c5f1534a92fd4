// Posts prepared bodies, one after another, as fast as the scenario says. Run by benchmarks/serve_client.py.
import http from 'k6/http';
import { Counter } from 'k6/metrics';

const paths = JSON.parse(open(__ENV.BODIES));
const contentType = __ENV.CONTENT_TYPE;
const bodiesPerUser = 4;
const unannounced = new Counter('refused_without_retry_after');

// The first initialisation must open every file; after it, a user holds few, for there may be hundreds of users.
const count = __VU === 0 ? paths.length : Math.min(bodiesPerUser, paths.length);
const bodies = [];
for (let number = 0; number < count; number++) {
  bodies.push(open(paths[(__VU * bodiesPerUser + number) % paths.length], 'b'));
}
const parameters = { headers: { 'Content-Type': contentType }, timeout: '60s' };

export default function () {
  const answer = http.post(__ENV.URL, bodies[__ITER % bodies.length], parameters);
  if ((answer.status === 429 || answer.status === 503) && !answer.headers['Retry-After']) {
    unannounced.add(1);
  }
}
