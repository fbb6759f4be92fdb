import Foundation
import RunnerCore
import UIKit
import os

/// What only the phone knows.
struct ThisPhone: Phone {
    func state() -> Json {
        let info = ProcessInfo.processInfo
        // UIDevice belongs to the main thread; jobs run on another.
        let (battery, charging) = DispatchQueue.main.sync { () -> (Double?, Bool?) in
            let device = UIDevice.current
            let level = device.batteryLevel < 0 ? nil : Double(device.batteryLevel) * 100
            switch device.batteryState {
            case .charging, .full: return (level, true)
            case .unplugged: return (level, false)
            default: return (level, nil)
            }
        }
        let version = info.operatingSystemVersion
        return .object([
            ("at", .text(ISO8601DateFormatter().string(from: Date()))),
            ("thermal_state", .text(name(of: info.thermalState))),
            ("low_power_mode", .bool(info.isLowPowerModeEnabled)),
            ("battery_pct", .maybe(battery)),
            ("charging", .maybe(charging)),
            ("free_memory_bytes", .maybe(available())),
            ("memory_bytes", .int(Int(clamping: info.physicalMemory))),
            ("processors", .int(info.processorCount)),
            ("os", .text("\(UIDevice.current.systemName) \(version.majorVersion).\(version.minorVersion)")),
            ("os_build", .maybe(text("kern.osversion"))),
            ("product", .text(product())),
            ("app_version", .maybe(appVersion)),
        ])
    }

    var appVersion: String? { Bundle.main.object(forInfoDictionaryKey: "CFBundleShortVersionString") as? String }

    func thermalLevel() -> Int? { ProcessInfo.processInfo.thermalState.rawValue }

    /// Source: mach/task_info.h, TASK_VM_INFO: `phys_footprint` is what the system's memory limit counts, and
    /// `ledger_phys_footprint_peak` its highest value in the life of the process.
    func memory() -> (now: Int, peak: Int)? {
        var info = task_vm_info_data_t()
        var count = mach_msg_type_number_t(MemoryLayout<task_vm_info_data_t>.size / MemoryLayout<natural_t>.size)
        let result = withUnsafeMutablePointer(to: &info) { pointer in
            pointer.withMemoryRebound(to: integer_t.self, capacity: Int(count)) {
                task_info(mach_task_self_, task_flavor_t(TASK_VM_INFO), $0, &count)
            }
        }
        guard result == KERN_SUCCESS else { return nil }
        return (Int(clamping: info.phys_footprint), Int(info.ledger_phys_footprint_peak))
    }

    private func available() -> Int? {
        if #available(iOS 13.0, *) { return os_proc_available_memory() }
        return nil
    }

    private func name(of state: ProcessInfo.ThermalState) -> String {
        switch state {
        case .nominal: return "nominal"
        case .fair: return "fair"
        case .serious: return "serious"
        case .critical: return "critical"
        @unknown default: return "unknown"
        }
    }

    private func product() -> String {
        // The simulator's own machine name is the Mac's.
        ProcessInfo.processInfo.environment["SIMULATOR_MODEL_IDENTIFIER"] ?? text("hw.machine") ?? "unknown"
    }

    private func text(_ name: String) -> String? {
        var size = 0
        guard sysctlbyname(name, nil, &size, nil, 0) == 0, size > 0 else { return nil }
        var bytes = [CChar](repeating: 0, count: size)
        guard sysctlbyname(name, &bytes, &size, nil, 0) == 0 else { return nil }
        return String(cString: bytes)
    }
}
