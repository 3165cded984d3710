// A client in Node: updates a user, shows errors, repeats a request, and follows a watch.
//
//   npm install --prefix examples/node
//   node examples/node/client.js 127.0.0.1:50051 [TOKEN]
import { fileURLToPath } from "node:url";
import grpc from "@grpc/grpc-js";
import loader from "@grpc/proto-loader";

const [address = "127.0.0.1:50051", token] = process.argv.slice(2);
const USER_ID = 5, DEADLINE = 5000, ATTEMPTS = 3;

const proto = fileURLToPath(new URL("../../proto", import.meta.url));
const definition = loader.loadSync("m4/userdetails/v1/user_details_service.proto", { includeDirs: [proto], keepCase: true, longs: String });
const { UserDetailsService } = grpc.loadPackageDefinition(definition).m4.userdetails.v1;
const users = new UserDetailsService(address, grpc.credentials.createInsecure());
const metadata = new grpc.Metadata();
if (token) metadata.set("authorization", `Bearer ${token}`);

const update = (fields) =>
  new Promise((resolve, reject) => {
    const options = { deadline: Date.now() + DEADLINE };
    users.UpdateUserDetails({ user_id: USER_ID, ...fields }, metadata, options, (error, answer) => (error ? reject(error) : resolve(answer)));
  });

// The message ends with the reason. Every invalid field is in the details, of the type google.rpc.Status.
const show = (error) => console.log("error:", error.details);

// The first response has only a resume token: from now on no change is missed.
const watch = users.WatchUserDetails({ user_id: USER_ID }, metadata);
const responses = watch[Symbol.asyncIterator]();
await responses.next();

const city = { address: { city: "York" } };
console.log("updated: city is York, etag", (await update({ user_details: city })).user_details.etag);
let change = null;
while (!change) change = (await responses.next()).value.change;
console.log(`watched: change ${change.change_id} of ${change.changed_fields.paths.join(", ")} through ${change.door}`);
watch.on("error", () => {});
watch.cancel();

await update({ user_id: 999, user_details: city }).catch(show);
await update({ user_details: { general: { call_limit: -7 } } }).catch(show);
await update({ user_details: { ...city, etag: "5-0" } }).catch(show);

// With a request id, a repeat stores nothing and gets the first answer.
const etags = [];
for (let attempt = 0; attempt < ATTEMPTS && etags.length < 2; attempt++) {
  try {
    const answer = await update({ user_details: { address: { city: "Hull" } }, request_id: "9a7d1c3b-0c4e-4c7f-8a38-4d1e2f3a5b03" });
    // Once more, as if the first answer had been lost.
    etags.push(answer.user_details.etag);
  } catch (error) {
    if (error.code !== grpc.status.UNAVAILABLE) throw error;
    await new Promise((resume) => setTimeout(resume, 1000));
  }
}
console.log("repeated: etag", etags.join(", then "));
users.close();
