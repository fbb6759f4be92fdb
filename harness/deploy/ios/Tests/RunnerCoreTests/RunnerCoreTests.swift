import Foundation
import XCTest

@testable import RunnerCore

private let choice = #"{"runtime":"fake","accelerator":"cpu","threads":1,"graph_optimization":"all","options":{},"driver":"auto","affinity":"any","version":null}"#

private func jobText(_ changes: [String: String] = [:], id: String = "j1", schema: Int = 1, extra: String = "") -> Data {
    var fields = [
        "choice": choice, "model": #""/Documents/models/m.bin""#, "inputs": #"["/Documents/inputs/x.bin"]"#,
        "samples": "2", "output_folder": #""/Documents/outputs""#, "mode": #""latency""#, "blocks": "2",
        "block_s": "0.0", "block_iterations": "3", "warmup_iterations": "2", "warmup_s": "0.0",
        "warmup_cap_s": "0.01", "memory_iterations": "2", "profile_iterations": "2",
    ]
    for (key, value) in changes { fields[key] = value }
    let job = fields.map { "\"\($0)\":\($1)" }.joined(separator: ",")
    return Data("{\"schema\":\(schema),\"id\":\"\(id)\",\"job\":{\(job)},\"items\":[]\(extra)}".utf8)
}

final class JobTests: XCTestCase {
    func test_a_job_is_read_field_by_field() throws {
        let file = try JobFile.read(jobText(["block_s": "0.25"]))

        XCTAssertEqual(file.id, "j1")
        XCTAssertEqual(file.job?.block_s, 0.25)
        XCTAssertEqual(file.job?.choice.accelerator, "cpu")
        XCTAssertEqual(file.job?.inputs, ["/Documents/inputs/x.bin"])
    }

    func test_a_job_that_asks_for_the_state_only_has_no_job() throws {
        XCTAssertNil(try JobFile.read(Data(#"{"schema":1,"id":"a","job":null,"items":[]}"#.utf8)).job)
    }

    func test_options_keep_their_types() throws {
        let options = #"{"a":true,"b":1,"c":1.5,"d":"x"}"#
        let file = try JobFile.read(jobText(["choice": choice.replacingOccurrences(of: "{}", with: options)]))

        XCTAssertEqual(file.job?.choice.options, ["a": .bool(true), "b": .int(1), "c": .double(1.5), "d": .text("x")])
    }

    func test_what_cannot_be_done_as_asked_is_refused_with_a_reason() {
        let cases: [(Data, String)] = [
            (Data("{".utf8), "not JSON"),
            (Data("[]".utf8), "not an object"),
            (jobText(schema: 2), "version 2, this app reads version 1"),
            (jobText(extra: #","new":1"#), "the key new"),
            (jobText(["new": "1"]), "the key new"),
            (jobText(["samples": "0"]), "below 1"),
            (jobText(["block_s": "-1.0"]), "negative"),
            (jobText(["mode": #""fast""#]), "mode is latency or memory"),
            (jobText(["blocks": #""many""#]), "job.blocks"),
            (jobText(id: "../x"), "letters, digits"),
        ]
        for (data, reason) in cases {
            XCTAssertThrowsError(try JobFile.read(data)) { error in
                let refusal = error as? Refusal
                XCTAssertEqual(refusal?.kind, "unreadable_job")
                XCTAssertTrue(refusal?.message.contains(reason) == true, "\(reason) is not in \(error)")
            }
        }
    }
}

final class JsonTests: XCTestCase {
    func test_every_kind_of_value_is_written_and_unknown_is_null() {
        let value: Json = .object([
            ("a", .null), ("b", .bool(true)), ("c", .int(-5)), ("d", .double(0.25)), ("e", .array([.int(1), .int(2)])),
            ("f", .text("\"\\\n\u{1}ü")), ("g", .double(.infinity)),
        ])

        XCTAssertEqual(
            value.written, "{\"a\":null,\"b\":true,\"c\":-5,\"d\":0.25,\"e\":[1,2],\"f\":\"\\\"\\\\\\n\\u0001ü\",\"g\":null}")
    }
}

final class DigestTests: XCTestCase {
    /// Source: FIPS 180-4 examples, and the empty message.
    func test_known_digests() {
        XCTAssertEqual(sha256(Data()), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855")
        XCTAssertEqual(sha256(Data("abc".utf8)), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad")
        let long = "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq"
        XCTAssertEqual(
            sha256(Data(long.utf8)), "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1")
    }
}

/// A clock that moves by what a test says at each second reading, as a call between two readings would take it.
private final class Clock {
    private var time = 0
    private var inside = false
    private let taken: (Int) -> Int
    private var count = 0

    init(_ taken: @escaping (Int) -> Int) { self.taken = taken }

    func read() -> Int { time }
    func work() {
        time += taken(count)
        count += 1
    }
}

final class LoopTests: XCTestCase {
    func test_constant_times_settle_after_forty_one_iterations() {
        let clock = Clock { _ in 1_000_000 }

        let warm = warmUp(iterations: 10, seconds: 0, capSeconds: 8, clock: clock.read, invoke: clock.work)

        XCTAssertEqual(warm, WarmedUp(ns: [Int](repeating: 1_000_000, count: 41), steady: true))
    }

    func test_slow_constant_times_settle_after_five_iterations_and_a_second() {
        let clock = Clock { _ in 300_000_000 }

        let warm = warmUp(iterations: 1, seconds: 0, capSeconds: 8, clock: clock.read, invoke: clock.work)

        XCTAssertEqual(warm, WarmedUp(ns: [Int](repeating: 300_000_000, count: 5), steady: true))
    }

    func test_times_that_keep_growing_end_at_the_cap() {
        let clock = Clock { count in Int((1_000_000 * pow(1.02, Double(count))).rounded()) }

        let warm = warmUp(iterations: 10, seconds: 0.1, capSeconds: 2, clock: clock.read, invoke: clock.work)

        XCTAssertFalse(warm.steady)
        XCTAssertGreaterThanOrEqual(warm.ns.reduce(0, +), 2_000_000_000)
    }

    func test_a_block_lasts_until_time_and_iterations_are_both_reached() {
        let clock = Clock { _ in 1_000_000 }

        let byTime = timedBlock(iterations: 2, seconds: 0.005, perSample: 1, clock: clock.read, invoke: clock.work)
        let byCount = timedBlock(iterations: 7, seconds: 0, perSample: 3, clock: clock.read, invoke: clock.work)

        XCTAssertEqual(byTime.ns, [Int](repeating: 1_000_000, count: 5))
        XCTAssertEqual(byCount.ns, [Int](repeating: 3_000_000, count: 3))
    }

    func test_short_inferences_share_a_sample() {
        XCTAssertEqual(iterationsPerSample(typical: 1_000_000, clockCost: 40), 1)
        XCTAssertEqual(iterationsPerSample(typical: 1_000, clockCost: 40), 4)
        XCTAssertEqual(iterationsPerSample(typical: 0, clockCost: 1), 100)
    }
}

/// Hands back its input; or integers that are others after each inference.
private final class FakeSession: Session {
    let inputs = [TensorSpec(name: "x", shape: [1, 2], dtype: "float32")]
    let outputs: [TensorSpec]
    let settings: [(String, Json)] = []
    let timings = [("compile", 5), ("load_cold", 6)]
    private let drifts: Bool
    private var input = Data()
    private var inferences = 0

    init(drifts: Bool) {
        self.drifts = drifts
        outputs = [TensorSpec(name: "y", shape: [1, 2], dtype: drifts ? "int32" : "float32")]
    }

    func setInputs(_ sample: [Data]) throws { input = sample[0] }
    func invoke() throws { inferences += 1 }
    func readOutputs() throws -> [Data] {
        drifts ? [Data(repeating: UInt8(truncatingIfNeeded: inferences), count: 8)] : [input]
    }
    func placement() -> Placement {
        var placement = Placement()
        placement.missing = "this backend never tells"
        return placement
    }
}

private struct FakeBackend: Backend {
    let name = "fake", version = "1", api = "Fake"
    var drifts = false

    func open(model: URL, choice: Choice) throws -> Session {
        guard choice.accelerator == "cpu" else { throw Refusal("no_accelerator", "only cpu") }
        return FakeSession(drifts: drifts)
    }
}

private struct FakePhone: Phone {
    func state() -> Json { .object([("thermal_state", .text("nominal"))]) }
    var appVersion: String? { "1.0" }
    func thermalLevel() -> Int? { 0 }
    func memory() -> (now: Int, peak: Int)? { (100, 200) }
}

final class RunnerTests: XCTestCase {
    private var documents = URL(fileURLWithPath: "/")

    override func setUpWithError() throws {
        documents = FileManager.default.temporaryDirectory.appendingPathComponent(UUID().uuidString)
        try write(Data([0, 0, 128, 63, 0, 0, 0, 64, 0, 0, 0, 0, 0, 0, 128, 191]), "inputs/x.bin")
        try write(Data("model".utf8), "models/m.bin")
    }

    override func tearDownWithError() throws { try FileManager.default.removeItem(at: documents) }

    private func write(_ data: Data, _ path: String) throws {
        let file = documents.appendingPathComponent(path)
        try FileManager.default.createDirectory(
            at: file.deletingLastPathComponent(), withIntermediateDirectories: true)
        try data.write(to: file)
    }

    private func send(_ job: Data, id: String = "j1") throws {
        try write(job, "jobs/\(id)/job.json")
        try write(Data(sha256(job).utf8), "jobs/\(id)/ready")
    }

    private func runner() -> Runner { Runner(documents: documents, backends: [FakeBackend()], phone: FakePhone()) }

    private func lines(_ id: String = "j1") throws -> [[String: Any]] {
        let text = try String(
            contentsOf: documents.appendingPathComponent("results/\(id)/messages.ndjson"), encoding: .utf8)
        return try text.split(separator: "\n").map { line in
            try XCTUnwrap(try JSONSerialization.jsonObject(with: Data(line.utf8)) as? [String: Any])
        }
    }

    private func done(_ id: String = "j1") throws -> [String: Any] {
        let data = try Data(contentsOf: documents.appendingPathComponent("results/\(id)/done.json"))
        return try XCTUnwrap(try JSONSerialization.jsonObject(with: data) as? [String: Any])
    }

    func test_a_latency_job_says_every_message_in_order_and_writes_its_outputs() throws {
        try send(jobText())

        XCTAssertTrue(runner().runNext())

        let types = try lines().compactMap { $0["type"] as? String }
        XCTAssertEqual(
            types,
            ["meta", "canary", "loaded", "first", "outputs", "warmup", "block", "block", "canary", "end"])
        let output = try Data(contentsOf: documents.appendingPathComponent("results/j1/outputs/output-0.bin"))
        XCTAssertEqual(output, try Data(contentsOf: documents.appendingPathComponent("inputs/x.bin")))
        XCTAssertEqual(try done()["returncode"] as? Int, 0)
        XCTAssertEqual(try lines()[0]["program_version"] as? String, "1.0")
        XCTAssertEqual(try lines()[2]["placement_missing"] as? String, "this backend never tells")
        XCTAssertEqual(try lines()[2]["timings_ns"] as? [String: Int], ["compile": 5, "load_cold": 6])
    }

    func test_each_job_says_how_many_came_before_in_its_process() throws {
        let runner = self.runner()
        for id in ["j1", "j2"] {
            try send(jobText(id: id), id: id)
            XCTAssertTrue(runner.runNext())
        }

        XCTAssertEqual(try ["j1", "j2"].map { try lines($0)[0]["jobs_before"] as? Int }, [0, 1])
    }

    func test_a_memory_job_says_three_times_how_much() throws {
        try send(jobText(["mode": #""memory""#]))

        XCTAssertTrue(runner().runNext())

        let sizes = try lines().filter { $0["type"] as? String == "memory" }.compactMap { $0["resident_bytes"] as? Int }
        XCTAssertEqual(sizes, [100, 100, 200])
        let missing = try lines().compactMap { $0["placement_missing"] as? String }
        XCTAssertEqual(missing, ["not asked in a job that measures memory"])
    }

    func test_done_lists_every_other_file_with_its_digest() throws {
        try send(jobText())

        XCTAssertTrue(runner().runNext())

        let files = try XCTUnwrap(try done()["files"] as? [[String: Any]])
        XCTAssertEqual(files.compactMap { $0["path"] as? String }, ["messages.ndjson", "outputs/output-0.bin"])
        for file in files {
            let path = try XCTUnwrap(file["path"] as? String)
            let found = sha256(of: documents.appendingPathComponent("results/j1/\(path)"))
            XCTAssertEqual(file["sha256"] as? String, found)
        }
    }

    func test_half_a_job_is_left_alone() throws {
        try write(jobText(), "jobs/j1/job.json")
        XCTAssertFalse(runner().runNext())
        try write(Data("0000".utf8), "jobs/j1/ready")
        XCTAssertFalse(runner().runNext())
    }

    func test_a_job_is_taken_once() throws {
        try send(jobText())
        let runner = self.runner()

        XCTAssertTrue(runner.runNext())
        XCTAssertFalse(runner.runNext())
    }

    func test_a_refusal_is_a_result() throws {
        let other = choice.replacingOccurrences(of: "\"cpu\"", with: "\"gpu\"")
        try send(jobText(["choice": other]))

        XCTAssertTrue(runner().runNext())

        XCTAssertEqual(try lines().last?["kind"] as? String, "no_accelerator")
        XCTAssertEqual(try done()["returncode"] as? Int, 1)
    }

    func test_integers_that_changed_during_the_timed_inferences_are_refused() throws {
        try send(jobText())

        XCTAssertTrue(
            Runner(documents: documents, backends: [FakeBackend(drifts: true)], phone: FakePhone()).runNext())

        XCTAssertEqual(try lines().last?["kind"] as? String, "wrong_numbers")
        XCTAssertEqual(try done()["returncode"] as? Int, 1)
    }

    func test_a_file_that_arrived_damaged_is_refused_and_one_that_did_not_is_certified() throws {
        func job(_ digest: String) -> Data {
            let file = "{\"path\":\"models/m.bin\",\"sha256\":\"\(digest)\",\"size_bytes\":5}"
            let item = "{\"path\":\"models/m.bin\",\"receipt\":\"r1\",\"files\":[\(file)]}"
            return Data("{\"schema\":1,\"id\":\"j1\",\"job\":null,\"items\":[\(item)]}".utf8)
        }
        let receipt = documents.appendingPathComponent("receipts/r1").path
        try send(job("00"))
        XCTAssertTrue(runner().runNext())
        XCTAssertEqual(try lines().last?["kind"] as? String, "push_corrupted")
        XCTAssertFalse(FileManager.default.fileExists(atPath: receipt))

        try FileManager.default.removeItem(at: documents.appendingPathComponent("results/j1"))
        try send(job(sha256(Data("model".utf8))))
        XCTAssertTrue(runner().runNext())
        XCTAssertEqual(try done()["returncode"] as? Int, 0)
        XCTAssertTrue(FileManager.default.fileExists(atPath: receipt))
    }

    func test_a_job_that_ended_a_former_process_gets_a_result_that_says_so() throws {
        try write(Data("{}\n".utf8), "results/.j9.partial/messages.ndjson")

        runner().tidyUp()

        XCTAssertEqual(try done("j9")["returncode"] as? Int, 70)
    }
}
