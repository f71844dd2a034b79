// Package discovery will find the plugins that provide a capability. It holds no
// code yet; this page is the contract that it will be written to.
//
// # Providing
//
// A plugin will provide capabilities through its own handle, within its grant.
// The record will be checked and copied: figures finite and in range, versions by
// SemVer 2.0, schemas that compile. The index will follow from the records, so
// that withdrawing or leaving removes everything.
//
// # Finding
//
// A criterion will be either required, and decide who matches, or preferred, and
// give a score. Unknown figures will not satisfy a limit unless the query says
// so, and will never count as better than known ones. The order of matches will
// be total: the score, then the rank that the provider declared, then the id. The
// candidates of a query will tell the score of each by its parts, or why it was
// left out.
//
// # Figures
//
// Reliability and response time will be measured once there are enough calls to
// judge by; until then they will be what the provider declared. A match will say
// which of them it used.
//
// # Access
//
// One rule will decide who may find a provider and who may call it, and will be
// asked at both. A match will be advice, not a grant.
//
// # Requirements
//
// What a plugin requires will be resolved when it is registered. Missing and
// cyclic requirements will be reported, and dependants will hear when a provider
// leaves.
package discovery
