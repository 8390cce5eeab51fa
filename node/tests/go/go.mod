module limes.test/geminio

go 1.24.0

require (
	github.com/jumboframes/armorigo v0.2.5
	github.com/singchia/geminio v1.3.0-rc.2
)

require (
	github.com/singchia/go-timer/v2 v2.2.2 // indirect
	github.com/singchia/yafsm v1.0.1 // indirect
)
