package sim

import (
	"encoding/json"
	"testing"
)

// TestShowPlan prints the plan of -first-seed.
func TestShowPlan(t *testing.T) {
	text, err := json.Marshal(NewPlan(*firstSeed, PlanOptions{}))
	if err != nil {
		t.Fatal(err)
	}
	t.Log(string(text))
}
