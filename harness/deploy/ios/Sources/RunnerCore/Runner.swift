import Foundation

/// Takes jobs out of a folder and puts results into another.
///
/// Names that appear last stand for completeness: a job is there when `ready` holds the digest of `job.json`, a result
/// when its folder has its final name.
public final class Runner {
    private let documents: URL
    private let backends: [String: Backend]
    private let phone: Phone
    private let files = FileManager.default
    private var jobsBefore = 0

    public init(documents: URL, backends: [Backend], phone: Phone) {
        self.documents = documents
        self.backends = Dictionary(uniqueKeysWithValues: backends.map { ($0.name, $0) })
        self.phone = phone
    }

    /// Makes results of jobs that a former process of this app did not survive, and forgets what is an hour old.
    public func tidyUp(now: Date = Date()) {
        for folder in entries("results") where folder.lastPathComponent.hasPrefix(".") {
            let id = String(folder.lastPathComponent.dropFirst().dropLast(".partial".count))
            try? finish(folder, id: id, returncode: 70, lastWords: "the app was ended during this job", before: .null)
        }
        for folder in entries("results") + entries("jobs") {
            let changed = try? folder.resourceValues(forKeys: [.contentModificationDateKey]).contentModificationDate
            if let changed = changed, now.timeIntervalSince(changed) > 3600 { try? files.removeItem(at: folder) }
        }
    }

    /// Does the first job that is complete. False where there is none.
    public func runNext() -> Bool {
        for folder in entries("jobs") {
            guard let data = try? Data(contentsOf: folder.appendingPathComponent("job.json")),
                let ready = try? String(contentsOf: folder.appendingPathComponent("ready"), encoding: .utf8),
                ready.trimmingCharacters(in: .whitespacesAndNewlines) == sha256(data)
            else { continue }
            // Taken before it is done: a job that ends the app must not end it again at every start.
            try? files.removeItem(at: folder)
            run(data, id: folder.lastPathComponent)
            return true
        }
        return false
    }

    private func run(_ data: Data, id: String) {
        let partial = documents.appendingPathComponent("results/.\(id).partial")
        let before = phone.state()
        do {
            try files.createDirectory(at: partial.appendingPathComponent("outputs"), withIntermediateDirectories: true)
            let out = try Messages(partial.appendingPathComponent("messages.ndjson"))
            var failure: Refusal?
            do {
                let file = try JobFile.read(data)
                guard file.id == id else { throw Refusal("unreadable_job", "job.json names the job \(file.id)") }
                try verify(file.items)
                if let job = file.job { try perform(job, id: id, partial: partial, out: out) }
            } catch let refusal as Refusal {
                failure = refusal
            } catch {
                failure = Refusal("runtime_failed", "\(error)")
            }
            if let failure = failure {
                try out.say("error", [("kind", .text(failure.kind)), ("message", .text(failure.message))])
            }
            out.close()
            try finish(
                partial, id: id, returncode: failure == nil ? 0 : 1, lastWords: failure?.message ?? "", before: before)
        } catch {
            // Not even a result could be written. The host waits, and says that none came.
            try? files.removeItem(at: partial)
        }
        jobsBefore += 1
    }

    /// Checks that what the host sent is what is here, and certifies it, so that it is not sent again.
    private func verify(_ items: [SentItem]) throws {
        for item in items {
            for file in item.files {
                let found = sha256(of: documents.appendingPathComponent(file.path)) ?? "missing"
                // The host reads this sentence: a path, a space, a digest.
                guard found == file.sha256 else { throw Refusal("push_corrupted", "\(file.path) \(found)") }
            }
            let receipts = documents.appendingPathComponent("receipts")
            try files.createDirectory(at: receipts, withIntermediateDirectories: true)
            try Data().write(to: receipts.appendingPathComponent(item.receipt))
        }
    }

    private func perform(_ job: Job, id: String, partial: URL, out: Messages) throws {
        guard let backend = backends[job.choice.runtime] else {
            let known = backends.keys.sorted().joined(separator: ", ")
            throw Refusal("unknown_name", "this app has the runtimes \(known), not \(job.choice.runtime)")
        }
        guard job.choice.driver == "auto" else {
            throw Refusal("bad_setting", "on a phone this app is the only driver, not \(job.choice.driver)")
        }
        guard job.choice.version == nil else {
            throw Refusal("bad_setting", "on a phone the runtime is the one that the app was built with")
        }
        let cost = clockCost()
        try out.say("meta", [
            ("protocol", .int(1)), ("program", .text("ios-runner")), ("runtime", .text(backend.name)),
            ("runtime_version", .text(backend.version)), ("api", .text(backend.api)), ("library", .null),
            ("pid", .int(Int(ProcessInfo.processInfo.processIdentifier))), ("clock", .text(clockName)),
            ("clock_cost_ns", .int(cost)), ("startup_ns", .null), ("program_version", .maybe(phone.appVersion)),
            ("jobs_before", .int(jobsBefore)),
        ])
        if job.mode == "memory" {
            try memoryJob(job, backend, out)
        } else {
            try latencyJob(job, backend, id: id, partial: partial, cost: cost, out: out)
        }
        try out.say("end", [])
    }

    private func latencyJob(
        _ job: Job, _ backend: Backend, id: String, partial: URL, cost: Int, out: Messages
    ) throws {
        try out.say("canary", [("when", .text("before")), ("ns", .int(canary()))])
        let (session, loadNs) = try load(job, backend)
        let samples = try readSamples(job, session)
        try session.setInputs(samples[0])
        let began = now()
        try session.invoke()
        let firstNs = now() - began
        // Not before: to tell where operations run, Core ML loads the model once more.
        try sayLoaded(session, loadNs, session.placement(), out)
        try out.say("first", [("ns", .int(firstNs))])
        let answers = try answerAll(session, samples)
        try writeOutputs(answers, id: id, partial: partial, out: out)
        try session.setInputs(samples[0])
        let warm = try warmUp(
            iterations: job.warmup_iterations, seconds: job.warmup_s, capSeconds: job.warmup_cap_s,
            invoke: session.invoke)
        try out.say("warmup", [("ns", .array(warm.ns.map(Json.int))), ("steady", .bool(warm.steady))])
        let recent = warm.ns.suffix(100).sorted()
        let perSample = iterationsPerSample(typical: recent[recent.count / 2], clockCost: cost)
        for index in 0..<job.blocks {
            let cool = phone.thermalLevel()
            let block = try timedBlock(
                iterations: job.block_iterations, seconds: job.block_s, perSample: perSample, invoke: session.invoke)
            // A thermal state that rose is the one sign of lowered clocks that iOS gives.
            let hot = phone.thermalLevel()
            let rose = cool.flatMap { cool in hot.map { max(0, $0 - cool) } }
            try out.say("block", [
                ("index", .int(index)), ("start_ns", .int(block.start)),
                ("iterations_per_sample", .int(block.perSample)), ("ns", .array(block.ns.map(Json.int))),
                ("conditions", .object([("throttle_events", .maybe(rose))])),
            ])
        }
        try requireSame(session, answers[0])
        try out.say("canary", [("when", .text("after")), ("ns", .int(canary()))])
    }

    private func memoryJob(_ job: Job, _ backend: Backend, _ out: Messages) throws {
        guard phone.memory() != nil else { throw Refusal("unsupported", "this device does not say what memory it uses") }
        try sayMemory("baseline", out)
        let (session, loadNs) = try load(job, backend)
        // Not asked for: a second copy of the model would be in the peak.
        var placement = Placement()
        placement.missing = "not asked in a job that measures memory"
        try sayLoaded(session, loadNs, placement, out)
        let samples = try readSamples(job, session)
        try sayMemory("loaded", out)
        try session.setInputs(samples[0])
        for _ in 0..<job.memory_iterations { try session.invoke() }
        try sayMemory("peak", out)
    }

    private func sayMemory(_ at: String, _ out: Messages) throws {
        guard let memory = phone.memory() else { return }
        // The peak is that of the process's life and cannot be reset. After other jobs it is another figure.
        let source = jobsBefore == 0 ? "phys_footprint" : "phys_footprint (peak of several jobs)"
        try out.say("memory", [
            ("at", .text(at)), ("source", .text(source)),
            ("resident_bytes", .int(at == "peak" ? memory.peak : memory.now)),
            ("pss_bytes", .null), ("private_dirty_bytes", .null), ("rss_anon_bytes", .null),
        ])
    }

    private func load(_ job: Job, _ backend: Backend) throws -> (session: Session, ns: Int) {
        let model = try local(job.model)
        let began = now()
        let session = try backend.open(model: model, choice: job.choice)
        return (session, now() - began)
    }

    private func sayLoaded(_ session: Session, _ ns: Int, _ placement: Placement, _ out: Messages) throws {
        try out.say("loaded", [
            ("ns", .int(ns)), ("threads", .null), ("graph_optimization", .null),
            ("inputs", .array(session.inputs.map(\.json))), ("outputs", .array(session.outputs.map(\.json))),
            ("nodes_by_accelerator", .object(placement.byAccelerator.sorted { $0.key < $1.key }.map { ($0, .int($1)) })),
            ("nodes_total", .maybe(placement.total)), ("nodes_delegated", .maybe(placement.delegated)),
            ("partitions", .null), ("fallback_reason", .maybe(placement.fallbackReason)),
            ("placement_missing", .maybe(placement.missing)),
            ("nodes", .array(placement.nodes.map(\.json))),
            ("settings", .object(session.settings)),
            ("timings_ns", .object(session.timings.map { ($0.0, .int($0.1)) })),
        ])
    }

    /// One list of inputs a sample.
    private func readSamples(_ job: Job, _ session: Session) throws -> [[Data]] {
        guard job.inputs.count == session.inputs.count else {
            throw Refusal("wrong_input", "the model takes \(session.inputs.count) inputs, \(job.inputs.count) came")
        }
        var samples = [[Data]](repeating: [], count: job.samples)
        for (path, tensor) in zip(job.inputs, session.inputs) {
            guard let size = tensor.byteCount else {
                throw Refusal("wrong_input", "input \(tensor.name) is \(tensor.dtype), which this app cannot read")
            }
            let data = try Data(contentsOf: try local(path))
            guard data.count == size * job.samples else {
                let expected = "\(job.samples) samples of \(size) bytes"
                throw Refusal("wrong_input", "input \(tensor.name) has to be \(expected), it has \(data.count) bytes")
            }
            for index in 0..<job.samples {
                samples[index].append(data.subdata(in: index * size..<(index + 1) * size))
            }
        }
        return samples
    }

    /// The outputs for every sample. The first sample has been run already.
    private func answerAll(_ session: Session, _ samples: [[Data]]) throws -> [[Data]] {
        var answers = [try session.readOutputs()]
        for sample in samples.dropFirst() {
            try session.setInputs(sample)
            try session.invoke()
            answers.append(try session.readOutputs())
        }
        return answers
    }

    private func writeOutputs(_ answers: [[Data]], id: String, partial: URL, out: Messages) throws {
        var names: [Json] = []
        var digest = Digest()
        for index in answers[0].indices {
            let all = answers.reduce(into: Data()) { $0.append($1[index]) }
            try all.write(to: partial.appendingPathComponent("outputs/output-\(index).bin"))
            digest.update(all)
            names.append(.text("/Documents/results/\(id)/outputs/output-\(index).bin"))
        }
        let whole = digest.finish().map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined()
        try out.say("outputs", [("files", .array(names)), ("sha256", .text(whole))])
    }

    /// The timed inferences computed what the checked one did: their input was not overwritten, nothing drifted. 1 % of
    /// the largest value, because half precision that adds in another order is that far apart; integers are the same.
    private func requireSame(_ session: Session, _ expected: [Data]) throws {
        for (index, found) in try session.readOutputs().enumerated() {
            guard found.count == expected[index].count else {
                throw Refusal("wrong_numbers", "output \(index) changed its size during the timed inferences")
            }
            let limit = 1e-2 * max(1e-12, largest(expected[index]))
            let isReal = session.outputs[index].dtype == "float32"
            guard isReal ? difference(found, expected[index]) <= limit : found == expected[index] else {
                throw Refusal("wrong_numbers", "output \(index) changed between the first and the last inference")
            }
        }
    }

    /// Writes `done.json` and gives the folder its name.
    private func finish(_ partial: URL, id: String, returncode: Int, lastWords: String, before: Json) throws {
        try? files.removeItem(at: partial.appendingPathComponent("done.json"))
        let base = partial.resolvingSymlinksInPath().path
        var listed: [Json] = []
        let all = files.enumerator(at: partial, includingPropertiesForKeys: nil)?.compactMap { $0 as? URL } ?? []
        for file in all.sorted(by: { $0.path < $1.path }) {
            var isFolder: ObjCBool = false
            guard files.fileExists(atPath: file.path, isDirectory: &isFolder), !isFolder.boolValue else { continue }
            guard let digest = sha256(of: file) else { continue }
            let size = (try? files.attributesOfItem(atPath: file.path)[.size] as? NSNumber)?.intValue ?? 0
            let path = String(file.resolvingSymlinksInPath().path.dropFirst(base.count + 1))
            listed.append(.object([("path", .text(path)), ("sha256", .text(digest)), ("size_bytes", .int(size))]))
        }
        let done: Json = .object([
            ("schema", .int(JobFile.schema)), ("id", .text(id)), ("returncode", .int(returncode)),
            ("last_words", .text(lastWords)), ("before", before), ("after", phone.state()),
            ("files", .array(listed)),
        ])
        try Data(done.written.utf8).write(to: partial.appendingPathComponent("done.json"), options: .atomic)
        try files.moveItem(at: partial, to: documents.appendingPathComponent("results/\(id)"))
    }

    /// A path of the host's, `/Documents/...`, as one of this device.
    private func local(_ path: String) throws -> URL {
        let prefix = "/Documents/"
        guard path.hasPrefix(prefix), !path.split(separator: "/").contains("..") else {
            throw Refusal("unreadable_job", "\(path) is outside the app's folder")
        }
        return documents.appendingPathComponent(String(path.dropFirst(prefix.count)))
    }

    private func entries(_ folder: String) -> [URL] {
        let found = try? files.contentsOfDirectory(
            at: documents.appendingPathComponent(folder), includingPropertiesForKeys: [.contentModificationDateKey])
        return (found ?? []).sorted { $0.lastPathComponent < $1.lastPathComponent }
    }
}

/// A fixed piece of work that has nothing to do with any model: SHA-256 of 16 MiB.
func canary() -> Int {
    let block = Data(repeating: 0x5a, count: 1 << 20)
    let began = now()
    for _ in 0..<16 { _ = sha256(block) }
    return now() - began
}

private func floats(_ data: Data) -> [Float] {
    var values = [Float](repeating: 0, count: data.count / 4)
    _ = values.withUnsafeMutableBytes { data.copyBytes(to: $0) }
    return values
}

private func largest(_ data: Data) -> Double { floats(data).reduce(0) { max($0, Double(abs($1))) } }

/// The largest difference; infinite where one side is NaN and the other is not.
private func difference(_ left: Data, _ right: Data) -> Double {
    zip(floats(left), floats(right)).reduce(0) { worst, pair in
        if pair.0.isNaN || pair.1.isNaN { return pair.0.isNaN && pair.1.isNaN ? worst : .infinity }
        return max(worst, Double(abs(pair.0 - pair.1)))
    }
}

/// The lines of a result, each written as soon as it is known.
final class Messages {
    private let handle: FileHandle

    init(_ file: URL) throws {
        try Data().write(to: file)
        handle = try FileHandle(forWritingTo: file)
    }

    func say(_ type: String, _ fields: [(String, Json)]) throws {
        handle.write(Data((Json.object([("type", .text(type))] + fields).written + "\n").utf8))
    }

    func close() { handle.closeFile() }
}
