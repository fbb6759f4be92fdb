import Foundation

/// JSON as it is written. The host wants every key of a message, null where a value is unknown; Swift's own encoder
/// leaves such keys out.
public enum Json: Equatable {
    case null
    case bool(Bool)
    case int(Int)
    case double(Double)
    case text(String)
    case array([Json])
    case object([(String, Json)])

    public static func == (left: Json, right: Json) -> Bool { left.written == right.written }

    public static func maybe(_ value: Int?) -> Json { value.map(Json.int) ?? .null }
    public static func maybe(_ value: Double?) -> Json { value.map(Json.double) ?? .null }
    public static func maybe(_ value: Bool?) -> Json { value.map(Json.bool) ?? .null }
    public static func maybe(_ value: String?) -> Json { value.map(Json.text) ?? .null }

    /// On one line.
    public var written: String {
        var out = ""
        write(to: &out)
        return out
    }

    private func write(to out: inout String) {
        switch self {
        case .null: out += "null"
        case .bool(let value): out += value ? "true" : "false"
        case .int(let value): out += String(value)
        // JSON has no infinity; a figure that is none is unknown.
        case .double(let value): out += value.isFinite ? "\(value)" : "null"
        case .text(let value): Json.quote(value, to: &out)
        case .array(let values):
            out += "["
            for (index, value) in values.enumerated() {
                if index > 0 { out += "," }
                value.write(to: &out)
            }
            out += "]"
        case .object(let pairs):
            out += "{"
            for (index, pair) in pairs.enumerated() {
                if index > 0 { out += "," }
                Json.quote(pair.0, to: &out)
                out += ":"
                pair.1.write(to: &out)
            }
            out += "}"
        }
    }

    private static func quote(_ value: String, to out: inout String) {
        out += "\""
        for scalar in value.unicodeScalars {
            switch scalar {
            case "\"": out += "\\\""
            case "\\": out += "\\\\"
            case "\n": out += "\\n"
            case "\r": out += "\\r"
            case "\t": out += "\\t"
            default:
                if scalar.value < 0x20 {
                    let hex = String(scalar.value, radix: 16)
                    out += "\\u" + String(repeating: "0", count: 4 - hex.count) + hex
                } else {
                    out.unicodeScalars.append(scalar)
                }
            }
        }
        out += "\""
    }
}
