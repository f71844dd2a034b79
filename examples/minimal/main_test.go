package main

import (
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func Example() {
	main()
	// Output:
	// sensor says that temperature.kitchen is 21.5 °C
	// plugin "sensor" may not emit "heating.off": insufficient_permissions (audit record 2)
	// "sensor" may not emit "heating.off": insufficient_permissions (version 1 of the policy)
	//   name       yes
	//   plugin     yes
	//   allow      no   nothing in plugins.sensor.emit allows "heating.off"
	//   rate       yes  events: 6000 per 1m0s, burst 1000
	//   to allow it: add "heating.off" to plugins.sensor.emit.allow
	// closed, with nothing left behind: true
}
