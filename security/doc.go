// Package security decides what each plugin of a bus may do, how often, and
// with which payloads; and tells the host why.
//
//	policy, err := security.LoadFile("policy.json")
//	if err != nil {
//		return err // every mistake, each with its line and column
//	}
//	authority, err := security.New(security.Options{Policy: policy, Audit: log})
//	subject, err := authority.Join("indexer")
//	permit := subject.Permit(plugbus.VerbEmit, "index.done")
//
// An [Authority] belongs to the host. A [Subject] is the plugbus.Guard of one
// plugin: it answers for that plugin alone, and yields neither the authority
// nor the policy.
//
// # Policies
//
// A policy is data: a JSON file, or a [Document] in Go. A plugin that it does
// not name cannot join, and what it does not allow is denied.
//
//	{ "version": 1,
//	  "plugins": {
//	    "indexer": {
//	      "trust": "trusted",
//	      "canSendMessages": true, "canReceiveMessages": true,
//	      "emit": { "allow": ["index.**"], "deny": ["index.private.**"] },
//	      "subscribe": { "allow": ["files.*"] },
//	      "dataAccess": { "index": { "read": true, "write": true } },
//	      "rates": { "messages": { "limit": 100, "per": "1m", "burst": 20 } } } } }
//
// Loading is strict. Unknown, repeated and misspelled fields, wrong types,
// numbers out of range and malformed patterns are mistakes, and all of them are
// reported at once. What nobody could enforce is a mistake too: network and
// file access are for plugins in child processes. The fields are those of
// [Document]; [Schema] returns them as a JSON Schema.
//
// # Decisions
//
// A decision passes layers in one order: the name is well formed and not the
// hub's own; the policy knows the plugin; no deny pattern matches; an allow
// pattern does. A message needs more: the policy knows the peer; trust, of
// which only untrusted plugins have too little, and only for trusted and
// verified ones; and the recipient's right to receive from the sender. Rights
// to stores need every pattern that matches to agree. The first layer that
// refuses gives the reason.
//
// A pattern that begins with a wildcard, and so the value true, never reaches
// the hub's own names, such as "plugin:registered". These can be subscribed to
// by name, and nobody but the hub can emit them.
//
// # Changes
//
// [Authority.Swap] replaces the policy as a whole. Every decision is made by
// one policy, and after Swap returned by the new one. Rates change at once,
// without giving again what was taken.
//
// # Rates
//
// In any span of time w, a [Meter] admits at most limit × w / per + burst. It
// trusts no clock to run forward, and a limit of 0 admits nothing. Rates belong
// to the id of a plugin: to leave and to come back refills nothing. Alerts look
// at attempts, and so see a flood that is refused.
//
// # Refusals
//
// [Subject.Refuse] writes one audit entry with the rule, its place in the file
// and the smallest change that would allow the act. The plugin gets the reason
// and the number of the entry. It cannot find out by messages whether a plugin
// that it may not know of exists. [Authority.Explain] runs the code that
// decides, and writes down what it does.
//
// # What this cannot do
//
// Go code in the same process can go round the bus. Trust levels order plugins
// that keep to it; against hostile code there are processes. The content checks
// are a tripwire for careless plugins, and no output encoding.
package security
