"""Entry points only: options, composition and the command line. Nothing else imports this package."""
