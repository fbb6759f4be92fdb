import RunnerCore
import UIKit

/// One window with one line of text. UIKit and no scenes, because the oldest phone that is measured ends at iOS 12, and
/// SwiftUI begins with iOS 13.
@UIApplicationMain
final class AppDelegate: UIResponder, UIApplicationDelegate {
    var window: UIWindow?
    private let label = UILabel()
    /// Jobs run here one after the other; nothing else runs in this app meanwhile.
    private let queue = DispatchQueue(label: "jobs", qos: .userInteractive)

    func application(
        _ application: UIApplication, didFinishLaunchingWithOptions options: [UIApplication.LaunchOptionsKey: Any]?
    ) -> Bool {
        let window = UIWindow(frame: UIScreen.main.bounds)
        let controller = UIViewController()
        controller.view.backgroundColor = .black
        label.frame = controller.view.bounds.insetBy(dx: 24, dy: 80)
        label.autoresizingMask = [.flexibleWidth, .flexibleHeight]
        label.numberOfLines = 0
        label.textColor = .white
        label.text = "Waiting for jobs.\n\nKeep this app in front and the phone unlocked."
        controller.view.addSubview(label)
        window.rootViewController = controller
        window.makeKeyAndVisible()
        self.window = window
        // A phone that locks itself ends the app's right to compute.
        application.isIdleTimerDisabled = true
        UIDevice.current.isBatteryMonitoringEnabled = true
        let documents = FileManager.default.urls(for: .documentDirectory, in: .userDomainMask)[0]
        let runner = Runner(documents: documents, backends: [CoreMLBackend()], phone: ThisPhone())
        queue.async { [weak self] in
            runner.tidyUp()
            self?.watch(runner, done: 0)
        }
        return true
    }

    /// Looks once a second; a job runs in between, and nothing looks while it does.
    private func watch(_ runner: Runner, done: Int) {
        let ran = autoreleasepool { runner.runNext() }
        let total = done + (ran ? 1 : 0)
        if ran {
            DispatchQueue.main.async { self.label.text = "\(total) jobs done.\n\nKeep this app in front." }
        }
        queue.asyncAfter(deadline: .now() + (ran ? 0 : 1)) { [weak self] in self?.watch(runner, done: total) }
    }
}
