"""What is looked up instead of computed: n-gram memory."""
