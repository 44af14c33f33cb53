// Package authn proves who a client is: it checks and hashes passwords, and makes and reads tokens. What whoever it is may do, package auth decides.
package authn
