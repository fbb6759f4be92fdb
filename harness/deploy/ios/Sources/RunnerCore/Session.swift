import Foundation

/// An input or output as the model declares it.
public struct TensorSpec: Equatable {
    public let name: String
    public let shape: [Int]
    /// NumPy's name.
    public let dtype: String

    public init(name: String, shape: [Int], dtype: String) {
        self.name = name
        self.shape = shape
        self.dtype = dtype
    }

    var json: Json {
        .object([
            ("name", .text(name)), ("shape", .array(shape.map(Json.int))), ("dtype", .text(dtype)),
            ("scale", .null), ("zero_point", .null),
        ])
    }

    /// Of one sample; nil for a dtype that this app cannot read.
    public var byteCount: Int? {
        let sizes = ["float32": 4, "float16": 2, "float64": 8, "int32": 4, "int64": 8, "int8": 1, "uint8": 1]
        return sizes[dtype].map { $0 * shape.reduce(1, *) }
    }
}

/// One operation, and where its runtime means to compute it.
public struct PlacedNode {
    /// Of what it gives.
    public let name: String
    public let kind: String
    public let accelerator: String

    public init(name: String, kind: String, accelerator: String) {
        self.name = name
        self.kind = kind
        self.accelerator = accelerator
    }

    var json: Json {
        .object([("name", .text(name)), ("kind", .text(kind)), ("accelerator", .text(accelerator))])
    }
}

/// Which operation runs where. Unknown is nil.
public struct Placement {
    public var byAccelerator: [String: Int] = [:]
    public var nodes: [PlacedNode] = []
    public var total: Int?
    public var delegated: Int?
    public var fallbackReason: String?
    /// Why it is not known. A result has one or the other.
    public var missing: String?

    public init() {}
}

/// A loaded model, ready to run.
public protocol Session {
    var inputs: [TensorSpec] { get }
    var outputs: [TensorSpec] { get }

    /// Puts one sample where the runtime reads it, one value an input, in C order.
    func setInputs(_ sample: [Data]) throws
    /// Runs once, and returns when the outputs are there. The only thing that is timed.
    func invoke() throws
    /// A copy of what the last `invoke` computed, in C order.
    func readOutputs() throws -> [Data]
    /// May load the model once more: asked for after the first inference, and never where memory is measured.
    func placement() -> Placement
    /// What was really set up.
    var settings: [(String, Json)] { get }
    /// How long the parts of loading took, in ns.
    var timings: [(String, Int)] { get }
}

/// A runtime.
public protocol Backend {
    /// As jobs name it.
    var name: String { get }
    var version: String { get }
    var api: String { get }

    /// Loads a model. Throws `Refusal` where the file cannot be read or the accelerator is not there.
    func open(model: URL, choice: Choice) throws -> Session
}

/// What only the device knows. Unknown is nil.
public protocol Phone {
    /// An `AppState` of the host's.
    func state() -> Json
    /// Of this app; its host refuses a result without one.
    var appVersion: String? { get }
    /// 0 for nominal to 3 for critical.
    func thermalLevel() -> Int?
    /// Memory of this process: now, and the highest of its life.
    func memory() -> (now: Int, peak: Int)?
}
