// swift-tools-version:5.7
// The part of the app that needs nothing but Foundation: meant to build and be tested wherever there is Swift.
// `project.yml` adds the app itself.
import PackageDescription

let package = Package(
    name: "RunnerCore",
    platforms: [.iOS(.v12), .macOS(.v12)],
    products: [.library(name: "RunnerCore", targets: ["RunnerCore"])],
    targets: [
        .target(name: "RunnerCore"),
        .testTarget(name: "RunnerCoreTests", dependencies: ["RunnerCore"]),
    ]
)
