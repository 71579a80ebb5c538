//! Documents that several suites write.

use std::net::SocketAddr;

/// A service of the mesh at one address, in the namespace `payments`, identity `payments/<name>`.
pub fn service_entry(name: &str, at: SocketAddr, protocol: &str) -> String {
    format!(
        "
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: {name}, namespace: payments}}
spec:
  hosts: [{name}.payments]
  location: MESH_INTERNAL
  resolution: STATIC
  ports: [{{number: 8080, name: main, protocol: {protocol}}}]
  endpoints: [{{address: {}, ports: {{main: {}}}, serviceAccount: {name}}}]
",
        at.ip(),
        at.port()
    )
}
