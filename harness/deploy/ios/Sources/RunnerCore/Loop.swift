import Foundation

#if canImport(Glibc)
import Glibc
#endif

/// Monotonic, in ns; does not count sleep.
public func now() -> Int {
    #if canImport(Darwin)
    return Int(clock_gettime_nsec_np(CLOCK_UPTIME_RAW))
    #else
    var time = timespec()
    clock_gettime(CLOCK_MONOTONIC, &time)
    return time.tv_sec * 1_000_000_000 + time.tv_nsec
    #endif
}

#if canImport(Darwin)
public let clockName = "CLOCK_UPTIME_RAW"
#else
public let clockName = "CLOCK_MONOTONIC"
#endif

/// The shortest time between two readings of the clock.
public func clockCost() -> Int {
    var shortest = Int.max
    var before = now()
    for _ in 0..<1000 {
        let after = now()
        shortest = min(shortest, after - before)
        before = after
    }
    return max(1, shortest)
}

public struct WarmedUp: Equatable {
    public let ns: [Int]
    public let steady: Bool
}

/// Runs until the times have settled: a fast and a slow moving average within 4 % of each other for 40 iterations in a
/// row, or for one second and 5 iterations. At least `iterations` and `seconds`, at most `capSeconds`.
///
/// The same rule, with the same figures, as harness/deploy/worker/loop.py; the tests of both run the same traces.
public func warmUp(
    iterations: Int, seconds: Double, capSeconds: Double, clock: () -> Int = now, invoke: () throws -> Void
) rethrows -> WarmedUp {
    let fastWeight = 0.1, slowWeight = 0.005, close = 0.04
    var times: [Int] = []
    var fast = 0.0, slow = 0.0, fastLeft = 1.0, slowLeft = 1.0
    var closeSince: Int?
    var closeCount = 0
    let began = clock()
    while true {
        let before = clock()
        try invoke()
        let after = clock()
        times.append(after - before)
        let taken = Double(after - before)
        fast += fastWeight * (taken - fast)
        slow += slowWeight * (taken - slow)
        fastLeft *= 1 - fastWeight
        slowLeft *= 1 - slowWeight
        let steadyValue = slow / (1 - slowLeft)
        if abs(fast / (1 - fastLeft) - steadyValue) <= close * steadyValue {
            closeSince = closeSince ?? before
            closeCount += 1
        } else {
            closeSince = nil
            closeCount = 0
        }
        let lasted = Double(after - began) / 1e9
        let closeFor = closeSince.map { Double(after - $0) / 1e9 } ?? 0
        let settled = closeCount > 40 || (closeCount >= 5 && closeFor >= 1)
        if times.count >= iterations && lasted >= seconds && settled { return WarmedUp(ns: times, steady: true) }
        if lasted >= capSeconds { return WarmedUp(ns: times, steady: false) }
    }
}

public struct Timed: Equatable {
    public let start: Int
    public let perSample: Int
    public let ns: [Int]
}

/// Times inferences until `iterations` of them and `seconds` are both reached; `perSample` of them between two readings.
public func timedBlock(
    iterations: Int, seconds: Double, perSample: Int, clock: () -> Int = now, invoke: () throws -> Void
) rethrows -> Timed {
    var times: [Int] = []
    // Room for the fastest loop that this can be, so that the array does not grow between two inferences.
    times.reserveCapacity(1 << 16)
    let start = clock()
    let deadline = start + Int((seconds * 1e9).rounded())
    while true {
        let before = clock()
        for _ in 0..<perSample { try invoke() }
        let after = clock()
        times.append(after - before)
        if after >= deadline && times.count * perSample >= iterations {
            return Timed(start: start, perSample: perSample, ns: times)
        }
    }
}

/// How many inferences one sample needs so that reading the clock stays below 1 % of it.
public func iterationsPerSample(typical: Int, clockCost: Int) -> Int {
    let typical = max(1, typical)
    return max(1, (100 * clockCost + typical - 1) / typical)
}
