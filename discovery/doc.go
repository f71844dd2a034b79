// Package discovery finds the plugins that provide a capability, and ranks them.
//
//	index, err := discovery.New(discovery.Options{})
//	printer, err := index.Client("printer", discovery.ClientOptions{Version: "1.4.0"})
//	err = printer.Provide(discovery.Capability{Name: "pdf.render", Categories: []string{"documents"}})
//
//	reader, err := index.Client("reader", discovery.ClientOptions{})
//	matches, err := reader.Find(discovery.Criteria{
//		Require: discovery.Terms{Capabilities: []string{"pdf.render"}, Version: "^1.2"},
//	})
//
// A hub makes the index and its clients; plugins use the same methods on their
// session. The package finds; package router carries the calls, whose message type
// is the name of the capability. An index without a hub allows everything: see
// [plugbus.Guard].
//
// # Providing
//
// A plugin provides capabilities through its own handle, as far as its guard lets
// it. [Client.Provide] copies and checks a [Capability]: figures are in range,
// versions are those of SemVer 2.0, schemas compile, examples satisfy them. The
// index follows from the records, so that providing again leaves nothing stale, and
// [Client.Withdraw] and [Client.Close] remove everything. No name is special.
//
// # Finding
//
// [Criteria] have two parts. What is in Require decides who matches; what is in
// Prefer scores. A required category or range of versions that is met scores too.
// Empty criteria match all that is visible, and a criterion that asks for nothing
// adds nothing. The criteria are about the capabilities that matter: the required
// ones, or else all that the asker may see of a plugin. Of their figures the worst
// counts, and each of them has to be in the range of versions.
//
// An unknown figure satisfies no limit, unless Criteria.AllowUnknown says that
// it may for what is required, and it never scores. A capability of an unknown
// version is in no range. The order of matches is total: the score, then the lowest
// rank of the capabilities that matter, then the id. [Client.Candidates] tells the
// score of each visible provider by its parts, and why it was left out.
//
// # Versions
//
// In a range, "^1.2.3" goes to below 2.0.0 and "^0.2.3" to below 0.3.0, "~1.2.3" to
// below 1.3.0; "1.x", ">=1.2, <3", "1.2 - 1.4" and "||" are read too. Pre-releases
// are only in those alternatives of a range that name one. The build does not count.
//
// # Figures
//
// Reliability and response time are what the provider declares until there are
// enough calls to judge by, which the hub tells by [Index.Observe]; then they are
// measured. The response time is the mean of the calls that succeeded. A [Figure]
// says which it is. The latest calls count, with a bounded share for each caller,
// and none of a plugin to itself. They are kept when a plugin withdraws a capability
// and provides it again, and forgotten when it leaves.
//
// # Access
//
// One rule decides who sees a capability, and who may call it: the guard of the
// asker lets it discover the name, the access list of the capability admits the
// asker, and the guard of the provider still lets it provide the name. Its own
// capabilities a plugin always sees. A match is advice, not a grant:
// [Client.MayCall] asks again at the call. What a plugin may not see is in no
// answer, count or error, and nobody but the host and its plugin sees an access
// list.
//
// The rule is for those who name the capability. Who may send to the provider can
// also send it a message of that type; what such a message then meets is the access
// list, and the schemas.
//
// # Taking over
//
// A client that is made with ClientOptions.Held is to take the place of the one with its
// id: it declares beside it what it provides, and [Client.Succeed] has others find that
// in the place of what the old one provides, in one step.
//
// # Schemas
//
// The JSON Schemas of a capability are compiled when it is provided. Whoever
// carries calls asks [Client.CheckInput] and [Client.CheckOutput] of the provider,
// on the provider's worker: they hold for every value that a message can carry, and
// at a bounded cost.
//
// # Callers
//
// The package has no goroutines. Guards and Options.Availability are asked with no
// lock held, in the call of the plugin that asks.
//
// # Limits
//
// Capabilities are bounded for each plugin, in count and bytes, and all together;
// so are the texts and lists in them, those in criteria, and the matches. See
// [ClientOptions], [Options], and the constants.
package discovery
