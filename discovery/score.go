package discovery

// Points are the parts of a score, and what they are worth.
type Points struct {
	Required     float64 // all required capabilities are there, if some were required
	Category     float64 // for each category asked for that is there
	Version      float64 // the range asked for is met: the preferred one, if there is one
	Reliability  float64 // times the reliability, if known, and not below the preferred limit
	Capability   float64 // for each preferred capability that is there and available
	Cost         float64 // the preferred limit is met
	ResponseTime float64 // the preferred limit is met
}

// DefaultWeights returns what the parts of a score are worth unless
// [Options].Weights says otherwise.
func DefaultWeights() Points {
	return Points{Required: 50, Category: 10, Version: 20, Reliability: 10, Capability: 10, Cost: 10, ResponseTime: 10}
}

type part struct {
	name   string
	points float64
}

func (p Points) all() []part {
	return []part{
		{"Required", p.Required},
		{"Category", p.Category},
		{"Version", p.Version},
		{"Reliability", p.Reliability},
		{"Capability", p.Capability},
		{"Cost", p.Cost},
		{"ResponseTime", p.ResponseTime},
	}
}

// Sum returns the score.
func (p Points) Sum() float64 {
	sum := 0.0
	for _, part := range p.all() {
		sum += part.points
	}
	return sum
}
