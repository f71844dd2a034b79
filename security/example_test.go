package security_test

import (
	"errors"
	"fmt"
	"log"
	"time"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/security"
)

// A host loads a policy, and each plugin that joins has a guard that answers
// for it.
func Example() {
	policy, err := security.LoadFile("testdata/indexer.json")
	if err != nil {
		log.Fatal(err)
	}
	authority, err := security.New(security.Options{Policy: policy})
	if err != nil {
		log.Fatal(err)
	}
	indexer, err := authority.Join("indexer")
	if err != nil {
		log.Fatal(err)
	}
	defer indexer.Leave()

	for _, name := range []string{"index.done", "index.private.words", "files.changed"} {
		permit := indexer.Permit(plugbus.VerbEmit, name)
		fmt.Printf("%s: %t %q\n", name, permit.Allowed(), permit.Reason)
	}
	_, err = authority.Join("indxer")
	fmt.Println(err)
	// Output:
	// index.done: true ""
	// index.private.words: false "denied_by_rule"
	// files.changed: false "insufficient_permissions"
	// plugin "indxer" may not join: unknown_plugin: policy testdata/indexer.json for 3 plugins does not have it; add "indxer" under "plugins", or did you mean "indexer"?
}

// A host asks why, and gets the layers, the rule with its place in the file,
// and the smallest change that would allow the act.
func ExampleAuthority_Explain() {
	policy, err := security.LoadFile("testdata/indexer.json")
	if err != nil {
		log.Fatal(err)
	}
	authority, err := security.New(security.Options{Policy: policy})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(authority.Explain("stranger", plugbus.VerbSend, "indexer"))
	// Output:
	// "stranger" may not send to "indexer": trust_level_mismatch (version 1 of the policy)
	//   name       yes
	//   plugin     yes
	//   allow      yes  true in plugins.stranger.canSendMessages (testdata/indexer.json:31:7)
	//   peer       yes
	//   trust      no   "stranger" is untrusted, "indexer" is trusted
	//   recipient  yes  true in plugins.indexer.canReceiveMessages (testdata/indexer.json:14:32)
	//   rate       yes  messages: 10 per 1m0s, burst 10
	//   rate       yes  bytes: 1048576 per 1m0s, burst 1048576
	//   to allow it: set plugins.stranger.trust to "basic"
}

// All mistakes of a policy are reported at once.
func ExampleParse() {
	_, err := security.Parse([]byte(`{
  "version": 1,
  "plugins": {
    "clock": { "trsut": "basic", "emit": { "allow": ["tick..*"] }, "networkAccess": true }
  }
}`), "policy.json")
	fmt.Println(err)
	// Output:
	// policy.json:4:16: plugins.clock.trsut: unknown field "trsut"; did you mean "trust"?
	// policy.json:4:54: plugins.clock.emit.allow[0]: invalid pattern "tick..*": at byte 5: a token is empty; expected a name in which "*" may stand for a token, and "**" for one or more at the end
	// policy.json:4:85: plugins.clock.networkAccess: nobody can enforce "networkAccess" on code in this process; add "bridge": "process" for a plugin in a child process, or remove it
}

// A host that has no file builds its policy in Go.
func ExampleDocument() {
	policy, err := security.Document{Version: 1, Plugins: map[string]security.PluginRules{
		"clock": {
			Trust: plugbus.Basic,
			Emit:  &security.Rule{Allow: []string{"tick.*"}},
			Rates: security.RateRules{Events: &security.RateRule{Limit: new(int64(60))}},
		},
	}}.Policy()
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(policy.Explain("clock", plugbus.VerbEmit, "tick.second").Allowed)
	fmt.Println(policy.Explain("clock", plugbus.VerbEmit, "tock").Remedy)
	// Output:
	// true
	// add "tock" to plugins.clock.emit.allow
}

// A refusal is recorded, and the plugin gets an error that gives away nothing
// of the policy.
func ExampleSubject_Refuse() {
	policy, err := security.LoadFile("testdata/indexer.json")
	if err != nil {
		log.Fatal(err)
	}
	authority, err := security.New(security.Options{Policy: policy})
	if err != nil {
		log.Fatal(err)
	}
	screen, err := authority.Join("screen")
	if err != nil {
		log.Fatal(err)
	}
	for _, to := range []string{"stranger", "nobody"} {
		permit := screen.Permit(plugbus.VerbSend, to)
		err := screen.Refuse(plugbus.Refusal{Verb: plugbus.VerbSend, Object: to, Reason: permit.Reason})
		fmt.Println(errors.Is(err, plugbus.ErrDenied), err)
	}
	// Output:
	// true plugin "screen" may not send to "stranger": no_send_permission
	// true plugin "screen" may not send to "nobody": no_send_permission
}

// A meter says how long to wait.
func ExampleMeter() {
	now := time.Now()
	meter := security.NewMeter(security.Rate{Limit: 60, Per: time.Minute, Burst: 2}, now)
	for range 3 {
		fmt.Println(meter.Take(now, 1).Round(time.Millisecond))
	}
	// Output:
	// 0s
	// 0s
	// 1s
}
