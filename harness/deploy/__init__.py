"""Stage 4: put the artifact and its inputs on the device, intact. `Artifact -> Deployment`."""
