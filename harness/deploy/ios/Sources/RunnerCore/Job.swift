import Foundation

/// What the app cannot do. `kind` is a word of the host's vocabulary of errors.
public struct Refusal: Error, Equatable {
    public let kind: String
    public let message: String

    public init(_ kind: String, _ message: String) {
        self.kind = kind
        self.message = message
    }
}

/// A value of a free-form option.
public enum Setting: Decodable, Equatable {
    case bool(Bool)
    case int(Int)
    case double(Double)
    case text(String)

    public init(from decoder: Decoder) throws {
        let value = try decoder.singleValueContainer()
        // Bool first: a decoder may take `true` for 1, never the other way round.
        if let bool = try? value.decode(Bool.self) {
            self = .bool(bool)
        } else if let int = try? value.decode(Int.self) {
            self = .int(int)
        } else if let double = try? value.decode(Double.self) {
            self = .double(double)
        } else {
            self = .text(try value.decode(String.self))
        }
    }
}

public struct Choice: Decodable, Equatable {
    public let runtime: String
    public let accelerator: String
    public let threads: Int
    public let graph_optimization: String
    public let options: [String: Setting]
    public let driver: String
    public let affinity: String
    public let version: String?
}

/// The host's `Job`, field by field. Names are those of the JSON, so that no table has to keep two spellings together.
public struct Job: Decodable, Equatable {
    public let choice: Choice
    public let model: String
    public let inputs: [String]
    public let samples: Int
    public let output_folder: String
    public let mode: String
    public let blocks: Int
    public let block_s: Double
    public let block_iterations: Int
    public let warmup_iterations: Int
    public let warmup_s: Double
    public let warmup_cap_s: Double
    public let memory_iterations: Int
    public let profile_iterations: Int
}

public struct SentFile: Decodable, Equatable {
    public let path: String
    public let sha256: String
    public let size_bytes: Int
}

public struct SentItem: Decodable, Equatable {
    public let path: String
    public let receipt: String
    public let files: [SentFile]
}

/// A job.json.
public struct JobFile: Decodable, Equatable {
    public static let schema = 1

    public let schema: Int
    public let id: String
    /// nil: say only in which state the phone is.
    public let job: Job?
    public let items: [SentItem]

    /// Reads a job.json, or says why this app cannot do it.
    public static func read(_ data: Data) throws -> JobFile {
        let tree: Any
        do {
            tree = try JSONSerialization.jsonObject(with: data)
        } catch {
            throw Refusal("unreadable_job", "job.json is not JSON")
        }
        guard let top = tree as? [String: Any] else { throw Refusal("unreadable_job", "job.json is not an object") }
        // Before anything else: a job of another version may differ in everything but this.
        guard let version = top["schema"] as? Int else { throw Refusal("unreadable_job", "job.json has no schema") }
        guard version == schema else {
            throw Refusal("unreadable_job", "the job is of version \(version), this app reads version \(schema)")
        }
        // A key that this app does not know may change what was asked: never do less than that in silence.
        try refuseUnknown(top, ["schema", "id", "job", "items"], "job.json")
        if let job = top["job"] as? [String: Any] {
            try refuseUnknown(job, jobKeys, "job")
            if let choice = job["choice"] as? [String: Any] {
                try refuseUnknown(choice, choiceKeys, "job.choice")
            }
        }
        let file: JobFile
        do {
            file = try JSONDecoder().decode(JobFile.self, from: data)
        } catch let error as DecodingError {
            throw Refusal("unreadable_job", "job.json: \(describe(error))")
        }
        try file.check()
        return file
    }

    private func check() throws {
        // An id becomes a folder's name.
        let allowed = CharacterSet(charactersIn: "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-_")
        guard !id.isEmpty, id.unicodeScalars.allSatisfy(allowed.contains) else {
            throw Refusal("unreadable_job", "an id is letters, digits, - and _, not \(id)")
        }
        for path in items.flatMap({ $0.files.map(\.path) + [$0.path, $0.receipt] }) {
            guard !path.hasPrefix("/"), !path.split(separator: "/").contains("..") else {
                throw Refusal("unreadable_job", "\(path) is outside the app's folder")
            }
        }
        guard let job = job else { return }
        guard job.mode == "latency" || job.mode == "memory" else {
            throw Refusal("unreadable_job", "mode is latency or memory, not \(job.mode)")
        }
        let counts = [job.samples, job.blocks, job.block_iterations, job.warmup_iterations, job.memory_iterations]
        guard counts.allSatisfy({ $0 >= 1 }) else { throw Refusal("unreadable_job", "a count is below 1") }
        let seconds = [job.block_s, job.warmup_s, job.warmup_cap_s]
        guard seconds.allSatisfy({ $0 >= 0 && $0.isFinite }) else {
            throw Refusal("unreadable_job", "a time is negative or not finite")
        }
    }
}

private let jobKeys: Set<String> = [
    "choice", "model", "inputs", "samples", "output_folder", "mode", "blocks", "block_s", "block_iterations",
    "warmup_iterations", "warmup_s", "warmup_cap_s", "memory_iterations",
    "profile_iterations",
]
private let choiceKeys: Set<String> = [
    "runtime", "accelerator", "threads", "graph_optimization", "options", "driver", "affinity",
    "version",
]

private func refuseUnknown(_ object: [String: Any], _ known: Set<String>, _ place: String) throws {
    if let key = object.keys.sorted().first(where: { !known.contains($0) }) {
        throw Refusal("unreadable_job", "\(place) has the key \(key), which this app does not know")
    }
}

private func describe(_ error: DecodingError) -> String {
    func place(_ path: [CodingKey]) -> String { path.map(\.stringValue).joined(separator: ".") }
    switch error {
    case .keyNotFound(let key, let context): return "\(place(context.codingPath + [key])) is missing"
    case .typeMismatch(let type, let context): return "\(place(context.codingPath)) is not a \(type)"
    case .valueNotFound(let type, let context): return "\(place(context.codingPath)) is null, not a \(type)"
    case .dataCorrupted(let context): return "\(place(context.codingPath)) cannot be read"
    @unknown default: return "\(error)"
    }
}
