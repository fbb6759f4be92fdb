import CoreML
import Foundation
import RunnerCore
import UIKit

/// Core ML through `MLModel`.
struct CoreMLBackend: Backend {
    let name = "coreml"
    let api = "MLModel"
    var version: String {
        // The framework is part of the system and has no version of its own.
        "\(UIDevice.current.systemName) \(UIDevice.current.systemVersion)"
    }

    func open(model: URL, choice: Choice) throws -> Session {
        let configuration = MLModelConfiguration()
        configuration.computeUnits = try units(choice.accelerator)
        guard choice.options.isEmpty else {
            throw Refusal("bad_setting", "Core ML takes no options, \(choice.options.keys.sorted()) came")
        }
        guard choice.threads == 1 else {
            // It starts as many as it likes and has no setting.
            throw Refusal("bad_setting", "Core ML takes no number of threads, \(choice.threads) came")
        }
        guard choice.graph_optimization == "all" else {
            throw Refusal("bad_setting", "Core ML has one way to optimize a graph, not \(choice.graph_optimization)")
        }
        let compiled: URL
        let began = now()
        do {
            compiled = try MLModel.compileModel(at: model)
        } catch {
            throw Refusal("unreadable_model", "\(error.localizedDescription)")
        }
        let compiledAt = now()
        do {
            let loaded = try MLModel(contentsOf: compiled, configuration: configuration)
            return try CoreMLSession(
                loaded, compiled: compiled, configuration: configuration, asked: choice.accelerator,
                timings: [("compile", compiledAt - began), ("load_cold", now() - compiledAt)])
        } catch {
            try? FileManager.default.removeItem(at: compiled)
            if let refusal = error as? Refusal { throw refusal }
            throw Refusal("load_failed", "\(error.localizedDescription)")
        }
    }

    private func units(_ asked: String) throws -> MLComputeUnits {
        switch asked {
        case "cpu", "cpu_only": return .cpuOnly
        case "cpu_and_gpu": return .cpuAndGPU
        case "all": return .all
        case "cpu_and_ne":
            if #available(iOS 16.0, *) { return .cpuAndNeuralEngine }
            throw Refusal("no_accelerator", "cpu_and_ne can be asked for from iOS 16 on")
        default:
            throw Refusal("no_accelerator", "Core ML has cpu_only, cpu_and_gpu, cpu_and_ne and all, not \(asked)")
        }
    }
}

/// A loaded model with its inputs in place.
final class CoreMLSession: Session {
    let inputs: [TensorSpec]
    let outputs: [TensorSpec]
    let settings: [(String, Json)]
    let timings: [(String, Int)]
    private let model: MLModel
    private let compiled: URL
    private let configuration: MLModelConfiguration
    private let asked: String
    private var feed: MLFeatureProvider?
    private var answer: MLFeatureProvider?

    init(
        _ model: MLModel, compiled: URL, configuration: MLModelConfiguration, asked: String, timings: [(String, Int)]
    ) throws {
        self.model = model
        self.compiled = compiled
        self.configuration = configuration
        self.asked = asked
        self.timings = timings
        inputs = try model.modelDescription.inputDescriptionsByName.map { try tensor($0.key, $0.value) }
        outputs = try model.modelDescription.outputDescriptionsByName.map { try tensor($0.key, $0.value) }
        // A loaded model says its tensors by name and in no order, a job sends files in the model's order: which file
        // belongs to which of two tensors of one size cannot be known here, and must not be guessed.
        guard inputs.count == 1, outputs.count == 1 else {
            throw Refusal("unsupported", "the model has \(inputs.count) inputs and \(outputs.count) outputs, not 1 and 1")
        }
        settings = [("compute_units", .text(asked))]
    }

    func setInputs(_ sample: [Data]) throws {
        var values: [String: MLFeatureValue] = [:]
        for (tensor, data) in zip(inputs, sample) {
            let array = try MLMultiArray(shape: tensor.shape.map { NSNumber(value: $0) }, dataType: dataType(for: tensor))
            // A new array is contiguous and in C order, as the host sends it.
            data.withUnsafeBytes { bytes in
                if let source = bytes.baseAddress { array.dataPointer.copyMemory(from: source, byteCount: bytes.count) }
            }
            values[tensor.name] = MLFeatureValue(multiArray: array)
        }
        feed = try MLDictionaryFeatureProvider(dictionary: values)
    }

    func invoke() throws {
        guard let feed = feed else { throw Refusal("wrong_input", "no input was set") }
        try autoreleasepool { answer = try model.prediction(from: feed) }
    }

    func readOutputs() throws -> [Data] {
        try outputs.map { tensor in
            guard let array = answer?.featureValue(for: tensor.name)?.multiArrayValue else {
                throw Refusal("wrong_numbers", "output \(tensor.name) is not there")
            }
            // Strides may hold gaps; reading by index closes them.
            switch array.dataType {
            case .int32: return copy(array) { $0.int32Value }
            case .double: return copy(array) { $0.doubleValue }
            default: return copy(array) { $0.floatValue }
            }
        }
    }

    /// Making a plan loads the model once more.
    func placement() -> Placement { findPlacement(compiled, configuration, asked: asked) }

    deinit {
        // Not before: Core ML may read weights from there when it wants to.
        try? FileManager.default.removeItem(at: compiled)
    }

    private func copy<Value>(_ array: MLMultiArray, _ value: (NSNumber) -> Value) -> Data {
        var values: [Value] = []
        values.reserveCapacity(array.count)
        for index in 0..<array.count { values.append(value(array[index])) }
        return values.withUnsafeBytes { Data($0) }
    }

    private func dataType(for tensor: TensorSpec) -> MLMultiArrayDataType {
        switch tensor.dtype {
        case "int32": return .int32
        case "float64": return .double
        default: return .float32
        }
    }
}

private func tensor(_ name: String, _ description: MLFeatureDescription) throws -> TensorSpec {
    guard let constraint = description.multiArrayConstraint else {
        throw Refusal("wrong_input", "\(name) is no tensor; convert with tensors and not with images")
    }
    let dtype: String
    switch constraint.dataType {
    case .float32: dtype = "float32"
    case .double: dtype = "float64"
    case .int32: dtype = "int32"
    default:
        throw Refusal("wrong_input", "\(name) is half precision outside; convert with float32 inputs and outputs")
    }
    return TensorSpec(name: name, shape: constraint.shape.map(\.intValue), dtype: dtype)
}

/// Which operation Core ML means to compute where. A plan exists from iOS 17.4 on, and for ML Programs only here.
private func findPlacement(_ compiled: URL, _ configuration: MLModelConfiguration, asked: String) -> Placement {
    guard #available(iOS 17.4, *) else { return unknownPlacement("Core ML tells its plan from iOS 17.4 on") }
    let waiting = DispatchSemaphore(value: 0)
    let found = FoundUnits()
    Task.detached {
        defer { waiting.signal() }
        guard let plan = try? await MLComputePlan.load(contentsOf: compiled, configuration: configuration),
            case .program(let program) = plan.modelStructure, let main = program.functions["main"]
        else { return }
        found.isKnown = true
        for operation in main.block.operations {
            // Constants are computed nowhere, and have no usage.
            guard let usage = plan.deviceUsage(for: operation) else { continue }
            let unit: String
            switch usage.preferred {
            case .cpu: unit = "cpu"
            case .gpu: unit = "gpu"
            case .neuralEngine: unit = "neural_engine"
            @unknown default: unit = "unknown"
            }
            let given = operation.outputs.map(\.name).joined(separator: ", ")
            found.nodes.append(PlacedNode(name: given, kind: operation.operatorName, accelerator: unit))
        }
    }
    waiting.wait()
    guard found.isKnown else { return unknownPlacement("Core ML gave no plan: it tells one of ML Programs only") }
    let total = found.nodes.count
    let counts = found.nodes.reduce(into: [String: Int]()) { $0[$1.accelerator, default: 0] += 1 }
    let wanted = ["cpu": "cpu", "cpu_only": "cpu", "cpu_and_gpu": "gpu", "cpu_and_ne": "neural_engine"][asked]
    var placement = Placement()
    placement.byAccelerator = counts
    placement.nodes = found.nodes
    placement.total = total
    guard let wanted = wanted else {
        // `all` leaves the choice to Core ML: nothing that it chooses is a fallback.
        placement.delegated = total - (counts["cpu"] ?? 0)
        return placement
    }
    let delegated = counts[wanted] ?? 0
    placement.delegated = delegated
    if delegated < total {
        let others = Set(found.nodes.filter { $0.accelerator != wanted }.map(\.kind))
        let names = others.sorted().joined(separator: ", ")
        placement.fallbackReason = "\(total - delegated) of \(total) operations are planned elsewhere than \(wanted): \(names)"
    }
    return placement
}

private func unknownPlacement(_ why: String) -> Placement {
    var placement = Placement()
    placement.missing = why
    return placement
}

/// Filled by one task and read by another after it has signalled.
private final class FoundUnits: @unchecked Sendable {
    var nodes: [PlacedNode] = []
    var isKnown = false
}
